"""Alembic's migrations of the audit store. A released migration is never edited."""
