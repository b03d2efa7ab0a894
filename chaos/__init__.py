"""Fault injection under load: disrupt every process and link, then check invariants against the simulator's state."""
