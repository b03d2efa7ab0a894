"""Write a new project: a repository of handlers that depends on Spokes."""
