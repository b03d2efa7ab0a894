"""Calls of systems beside HubSpot: which hosts handlers declare, and what `tools.http` offers them."""
