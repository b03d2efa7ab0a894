"""Subscriptions, and the events they cause for a change. Fields and their order are those of HubSpot's deliveries.

Source: HubSpot's docs "Webhooks API guide" (classic) and "Create generic webhook subscriptions" (`object.*`).
"""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Final

from spokes.simulator.changes import CONVERSATION, AssociationEnd, Change, ChangeKind, Merge
from spokes.simulator.config import CUSTOM_TYPES, PortalConfig, Subscription
from spokes.simulator.crm.object_types import COMPANY, CONTACT, DEAL, TICKET, ObjectTypes
from spokes.simulator.errors import JsonObject

_FIRST_SUBSCRIPTION: Final = 4_410_001
_FIRST_EVENT: Final = 2_915_077_037  # beyond 32 bits, as in production
_CLASSIC: Final[Mapping[str, str]] = {
    CONTACT: "contact",
    COMPANY: "company",
    DEAL: "deal",
    TICKET: "ticket",
    "0-7": "product",
    "0-8": "line_item",
    CONVERSATION: CONVERSATION,
}
_UNREPORTED_PROPERTIES: Final = frozenset(
    {"hs_lastmodifieddate", "lastmodifieddate", "num_unique_conversion_events", "hs_object_id", "createdate"}
)
_CHANGE_FLAGS: Final[Mapping[ChangeKind, str]] = {
    ChangeKind.CREATION: "CREATED",
    ChangeKind.DELETION: "DELETED",
    ChangeKind.NEW_MESSAGE: "NEW_MESSAGE",
}


class Subscriptions:
    """The subscriptions of one portal's app, and the ids of subscriptions and events."""

    def __init__(self, config: PortalConfig, rng: Random) -> None:
        self._config = config
        self._rng = rng
        self._types = ObjectTypes(config.custom_types, config.portal_id)
        self._next_event_id = _FIRST_EVENT
        self._next_id = _FIRST_SUBSCRIPTION
        self.active: list[Subscription] = []
        self._sensitive = {
            self._types.resolve(name).type_id: names for name, names in config.sensitive_properties.items()
        }
        for subscription in config.subscriptions:
            self.add(subscription)

    def add(self, subscription: Subscription) -> Subscription:
        """Add a subscription and return it with its id."""
        if not subscription.subscription_id:
            subscription = replace(subscription, subscription_id=self._next_id)
            self._next_id += 1
        self.active.append(subscription)
        return subscription

    def set_active(self, subscription_id: int, *, is_active: bool) -> None:
        """Activate or pause one subscription."""
        self.active = [
            replace(each, active=is_active) if each.subscription_id == subscription_id else each for each in self.active
        ]

    def remove(self, subscription_id: int) -> None:
        """Remove one subscription."""
        self.active = [subscription for subscription in self.active if subscription.subscription_id != subscription_id]

    def build_elements(self, change: Change) -> list[JsonObject]:
        """Return the events of a change: one for each matching subscription."""
        if not self.is_reported(change):
            return []
        return [
            self._generic(change, subscription) if _is_generic(subscription) else self._classic(change, subscription)
            for subscription in self.active
            if subscription.active and self._matches(subscription, change)
        ]

    def is_reported(self, change: Change) -> bool:
        """Return whether HubSpot reports such a change at all."""
        return change.kind is not ChangeKind.PROPERTY_CHANGE or change.property_name not in _UNREPORTED_PROPERTIES

    def shown_value(self, change: Change) -> str | None:
        """Return the changed property's value as an event shows it."""
        return "REDACTED" if self._is_sensitive(change) else change.property_value

    def _matches(self, subscription: Subscription, change: Change) -> bool:
        family, _, kind = subscription.subscription_type.partition(".")
        if kind != change.kind or subscription.property_name not in {None, change.property_name}:
            return False
        type_id = change.ref.type_id
        if family == "object":
            if subscription.object_type == CUSTOM_TYPES:
                return type_id.startswith("2-")
            subscribed = (
                subscription.object_type is None or self._types.resolve(subscription.object_type).type_id == type_id
            )
            # Conversations and privacy deletions exist only in the classic dialect.
            return subscribed and type_id != CONVERSATION and change.kind is not ChangeKind.PRIVACY_DELETION
        other_type_id = change.association.to.type_id if change.association is not None else type_id
        return family == _CLASSIC.get(type_id) and other_type_id in _CLASSIC

    def _classic(self, change: Change, subscription: Subscription) -> JsonObject:
        element = self._common_fields(change, subscription)
        if change.association is not None:
            return element | _classic_association(change, change.association)
        element["objectId"] = int(change.ref.object_id)
        if change.kind is ChangeKind.PROPERTY_CHANGE:
            element["propertyName"] = change.property_name
            element["propertyValue"] = self.shown_value(change)
        if change.ref.type_id == CONVERSATION:
            return element | _conversation(change)
        element |= _change_flag(change)
        return element | _source(change) | _merge(change.merge) | _source_id(change)

    def _generic(self, change: Change, subscription: Subscription) -> JsonObject:
        element = self._common_fields(change, subscription)
        if change.association is not None:
            return element | _generic_association(change, change.association)
        element["objectId"] = int(change.ref.object_id)
        if change.kind is ChangeKind.PROPERTY_CHANGE:
            element["propertyName"] = change.property_name
            element["propertyValue"] = self.shown_value(change)
        element |= _change_flag(change) | _source(change)
        element["objectTypeId"] = change.ref.type_id
        element |= _merge(change.merge) | _source_id(change)
        if change.kind is ChangeKind.PROPERTY_CHANGE:
            element["isSensitive"] = self._is_sensitive(change)
        return element

    def _common_fields(self, change: Change, subscription: Subscription) -> JsonObject:
        self._next_event_id += self._rng.randint(1, 97)
        return {
            "eventId": self._next_event_id,
            "subscriptionId": subscription.subscription_id,
            "portalId": self._config.portal_id,
            "appId": self._config.app_id,
            "occurredAt": change.at_ms,
            "subscriptionType": subscription.subscription_type,
            "attemptNumber": 0,
        }

    def _is_sensitive(self, change: Change) -> bool:
        return change.property_name in self._sensitive.get(change.ref.type_id, ())


def _is_generic(subscription: Subscription) -> bool:
    return subscription.subscription_type.startswith("object.")


def _change_flag(change: Change) -> JsonObject:
    flag = _CHANGE_FLAGS.get(change.kind)
    return {} if flag is None else {"changeFlag": flag}


def _source(change: Change) -> JsonObject:
    of_people = change.kind in {ChangeKind.MERGE, ChangeKind.ASSOCIATION_CHANGE}
    return {"changeSource": change.source.user_action if of_people else change.source.change_source}


def _source_id(change: Change) -> JsonObject:
    return {} if change.kind is ChangeKind.PRIVACY_DELETION else {"sourceId": change.source.source_id}


def _merge(merge: Merge | None) -> JsonObject:
    if merge is None:
        return {}
    return {
        "primaryObjectId": int(merge.primary_id),
        "mergedObjectIds": [int(id_) for id_ in merge.merged_ids],
        "newObjectId": int(merge.new_id),
        "numberOfPropertiesMoved": merge.properties_moved,
    }


def _conversation(change: Change) -> JsonObject:
    """Return the fields of a thread's event: it has another change flag for a new thread, and no source."""
    fields: JsonObject = {}
    if change.kind is ChangeKind.NEW_MESSAGE:
        fields = {"messageId": change.message_id, "messageType": change.message_type}
    return fields | ({"changeFlag": "NEW"} if change.kind is ChangeKind.CREATION else _change_flag(change))


def _classic_association(change: Change, end: AssociationEnd) -> JsonObject:
    direction = f"{_CLASSIC[change.ref.type_id]}_to_{_CLASSIC[end.to.type_id]}".upper()
    return {
        **_source(change),
        "associationType": direction,
        "fromObjectId": int(change.ref.object_id),
        "toObjectId": int(end.to.object_id),
        "associationRemoved": end.removed,
        "isPrimaryAssociation": end.primary,
        **_source_id(change),
    }


def _generic_association(change: Change, end: AssociationEnd) -> JsonObject:
    return {
        **_source(change),
        "fromObjectId": int(change.ref.object_id),
        "fromObjectTypeId": change.ref.type_id,
        "toObjectId": int(end.to.object_id),
        "toObjectTypeId": end.to.type_id,
        "associationTypeId": end.spec.type_id,
        "associationCategory": end.spec.category,
        "associationRemoved": end.removed,
        "isPrimaryAssociation": end.primary,
        **_source_id(change),
    }
