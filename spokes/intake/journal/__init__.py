"""HubSpot's webhooks journal as an intake: its pages and entries, and how far it has been read."""
