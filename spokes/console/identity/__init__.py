"""People and programs as an identity provider vouches for them: OpenID Connect, from its documents to our roles."""
