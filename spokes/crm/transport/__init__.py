"""One call on the wire, within the rate budget."""
