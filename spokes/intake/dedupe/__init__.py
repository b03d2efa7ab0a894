"""Known events: marks of those that were admitted, and how requests that come again are counted and recorded."""
