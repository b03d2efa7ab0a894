"""The CRM's state and rules."""
