"""The reader of HubSpot's webhooks journal: pages in, events out to the admission that the receiver uses."""
