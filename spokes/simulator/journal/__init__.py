"""HubSpot's webhooks journal: the app's events in ordered pages that it polls, kept for three days."""
