"""Values of properties as HubSpot stores and compares them, and what may be written."""
