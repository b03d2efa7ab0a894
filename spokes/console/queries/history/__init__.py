"""What happened: audit records, archived or not, and what they say about deliveries, events and CRM objects."""
