"""Is this deployment healthy."""
