"""Typical subscriptions of an app, of which the simulator has those that its handlers need."""

from collections.abc import Collection
from typing import Final

from spokes.simulator.config import CUSTOM_TYPES, Subscription

_ANY_OBJECT: Final = "object"
# Typical subscriptions of an app. The contact's e-mail address uses a generic (`object.*`) subscription.
DEFAULT_SUBSCRIPTIONS: Final = (
    *(
        Subscription(f"{family}.{kind}")
        for family in ("contact", "company", "deal", "ticket")
        for kind in ("creation", "deletion", "merge", "restore", "associationChange")
    ),
    Subscription("contact.privacyDeletion"),
    Subscription("contact.propertyChange", "phone"),
    Subscription("contact.propertyChange", "lifecyclestage"),
    Subscription("object.propertyChange", "email", "contact"),
    Subscription("company.propertyChange", "domain"),
    Subscription("deal.propertyChange", "dealstage"),
    Subscription("deal.propertyChange", "amount"),
    Subscription("ticket.propertyChange", "hs_pipeline_stage"),
    Subscription("conversation.newMessage"),
    *(
        Subscription(f"object.{kind}", object_type=CUSTOM_TYPES)
        for kind in ("creation", "deletion", "propertyChange", "merge", "restore", "associationChange")
    ),
)


def chosen_subscriptions(events: Collection[str]) -> tuple[Subscription, ...]:
    """Return the typical subscriptions that `events` match, such as contact.creation or deal.propertyChange:amount.

    Without events all are returned.
    """
    if not events:
        return DEFAULT_SUBSCRIPTIONS
    return tuple(each for each in DEFAULT_SUBSCRIPTIONS if any(_matches(each, event) for event in events))


def _matches(subscription: Subscription, event: str) -> bool:
    event_type, _, property_name = event.partition(":")
    event_family, _, event_kind = event_type.partition(".")
    family, _, kind = subscription.subscription_type.partition(".")
    is_custom = subscription.object_type == CUSTOM_TYPES and event_family.startswith("2-")
    has_family = is_custom or event_family in {family, subscription.object_type, _ANY_OBJECT}
    return has_family and kind == event_kind and (not property_name or subscription.property_name == property_name)
