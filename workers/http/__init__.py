"""`tools.http`: calls of systems beside HubSpot, with one session per worker process."""
