"""The web process: a signed request in, a delivery out."""
