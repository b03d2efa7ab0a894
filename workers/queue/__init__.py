"""Claiming jobs, renewing leases, isolating crash loops."""
