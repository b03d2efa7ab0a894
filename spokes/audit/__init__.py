"""The audit: records, their stream in Redis, their archive in SQL, and the state of alerts."""
