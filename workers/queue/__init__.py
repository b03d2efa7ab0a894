"""Claiming jobs and holding leases."""
