"""Operators' questions, answered from Redis and the audit store, for command line, API and pages.

Queries only read and return frozen values. Each takes the portals that the actor may see, None for all.
"""
