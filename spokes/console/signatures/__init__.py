"""Find out why a captured request's signature does not match."""
