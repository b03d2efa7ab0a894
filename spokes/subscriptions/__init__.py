"""Subscriptions as code: what the handlers register for is what HubSpot sends."""
