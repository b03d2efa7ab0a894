"""`gaps` and `backfill`: what may have been missed, and how it is brought in."""
