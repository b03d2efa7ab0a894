"""Break everything on purpose while it works, then count. Rule: a run is judged by what HubSpot's side knows."""
