"""Running one delivery: lanes, handler calls, settlement."""
