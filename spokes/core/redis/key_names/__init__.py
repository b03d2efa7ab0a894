"""The names of keys, by subject; `spokes.core.redis.keys` lists all of them."""
