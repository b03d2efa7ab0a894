"""What pages and API both do for the actor of a request: with dead letters, quarantined contents and portals."""
