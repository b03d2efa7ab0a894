"""The portals that installed the app, and their OAuth tokens: sealed in SQL, refreshed by one process at a time."""
