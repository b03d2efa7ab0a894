"""Verification of the audit chain: its records, its checkpoints, and what is known about it elsewhere."""
