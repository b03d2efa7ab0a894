"""JSON that others sent: its fields by type, and its size."""
