"""HubSpot's CRM: services for handlers, over batch queues, one rate budget and one client."""
