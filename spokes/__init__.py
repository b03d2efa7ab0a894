"""Public API for handler authors: lazy names, sorted `__all__`."""
