"""The audit store: SQLite or PostgreSQL."""
