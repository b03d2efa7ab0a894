"""Checks of portals: access tokens, scopes, installs, and which workers serve them."""
