"""HubSpot's OAuth server: installs of the app, codes, tokens. It knows nothing of HTTP."""
