"""The console's own web process: who is there, who may do what, and what surrounds each page and API call."""
