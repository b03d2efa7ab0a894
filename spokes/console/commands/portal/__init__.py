"""The commands for portals: those that installed the app, and what is different for one portal."""
