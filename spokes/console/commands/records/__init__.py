"""The commands for what is kept as evidence: the audit and incidents."""
