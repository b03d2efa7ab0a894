"""The commands for queue state that operators change: waiting deliveries, pauses, dead letters, quarantine."""
