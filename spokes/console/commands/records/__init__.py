"""The commands that read the audit, whole or for one event or object, and those for incidents."""
