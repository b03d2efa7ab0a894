"""The worker process: a delivery in, audit records out."""
