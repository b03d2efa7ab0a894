"""Who may do what: actors, roles, sessions, tokens."""
