"""Incidents in the audit store, and the signed bundle that one is exported to."""
