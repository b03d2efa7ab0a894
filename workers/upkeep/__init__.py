"""Periodic jobs and self-monitoring."""
