"""The subscriptions of an app to HubSpot's webhooks journal, of each portal: read, compared and changed by API."""
