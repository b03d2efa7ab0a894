"""The subscriptions of a legacy public app: read, compared and changed by the webhooks API."""
