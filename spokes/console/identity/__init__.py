"""OpenID Connect: the provider's documents and keys, the login flow, bearer tokens, and claims as our roles."""
