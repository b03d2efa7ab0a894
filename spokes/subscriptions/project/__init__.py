"""The files of a HubSpot project that carry app and subscriptions: read, compared and updated in place."""
