"""Calls of HubSpot, one at a time, within the shared rate budget."""
