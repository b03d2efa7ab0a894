"""What programs see and do: `/api/v1` over console.answers, described by the same declarations that serve it."""
