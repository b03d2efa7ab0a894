"""Running one delivery."""
