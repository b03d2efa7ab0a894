"""What operators ask, answered from Redis and the audit store: for command line, API and pages alike.

Rule: it only reads, returns frozen values, and shows nobody another portal's: each question takes the portals that the
asker may see, None for all.
"""
