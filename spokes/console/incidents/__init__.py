"""The contents of an incident's bundle, collected from the audit store, Redis and the settings."""
