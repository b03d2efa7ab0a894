"""Positions of the chain that are kept outside the audit store: in Redis, and where CHECKPOINT_TO says."""
