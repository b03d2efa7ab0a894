"""The worker process: it claims deliveries, runs handlers, and settles events with their audit records."""
