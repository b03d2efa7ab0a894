"""What we ask of HubSpot: one client, one budget, batch calls, and services for objects of any type."""
