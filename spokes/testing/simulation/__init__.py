"""The simulated HubSpot of a test: its events, its failures, and its state to compare and to return to."""
