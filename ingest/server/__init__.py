"""HTTP serving around the receiver."""
