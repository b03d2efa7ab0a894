"""Portals that install the app by OAuth beside the portal of the static token, and a search for leaked secrets."""
