"""What programs see and do: `/api/v1` over spokes.console.queries, described by the same declarations that serve it."""
