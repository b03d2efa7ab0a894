"""Checks of what this deployment talks to: web process, alert webhook, identity provider, other destinations."""
