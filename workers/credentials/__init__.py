"""The credentials that a worker process calls HubSpot with."""
