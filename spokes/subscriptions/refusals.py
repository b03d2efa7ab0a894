"""Errors of HubSpot's APIs for subscriptions, of both kinds."""

from spokes.core.errors import SpokesError


class SubscriptionRefused(SpokesError):
    """HubSpot refused a call on subscriptions; `status` is its response's."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class SubscriptionOutcomeUnknown(SpokesError):
    """HubSpot gave no usable answer: the change may have happened or not."""
