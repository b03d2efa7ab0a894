"""Many callers, one batch call."""
