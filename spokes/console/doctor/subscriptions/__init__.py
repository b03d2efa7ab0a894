"""Checks of what HubSpot sends to this deployment, and of what of it HubSpot ends."""
