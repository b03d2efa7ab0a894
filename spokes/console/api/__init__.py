"""`/api/v1` over spokes.console.queries: the same declarations serve and describe each route."""
