"""Backfill: read the records that changed in an interval from HubSpot's CRM, and admit their events."""
