"""Commands that compare HubSpot with what the handlers need, and change it."""
