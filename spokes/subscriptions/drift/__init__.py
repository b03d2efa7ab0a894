"""Drift: where what arrives differs from what the handlers register for. No call to HubSpot is needed."""
