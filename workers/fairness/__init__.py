"""How portals share a worker: their shares, their turns, and what is held of each."""
