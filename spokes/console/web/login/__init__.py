"""Who makes a request: login by password, link or identity provider, and the actor of a session or token."""
