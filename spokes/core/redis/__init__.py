"""How every process talks to Redis."""
