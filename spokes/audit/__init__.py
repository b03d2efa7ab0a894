"""What happened, kept: records, their stream in Redis, their store in SQL."""
