"""Quarantined contents as operators see and settle them: shared by pages, API and commands."""
