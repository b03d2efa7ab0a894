"""The key that tells two events apart. Rule: it is made of what an event says, never of how often it was told."""

import hashlib
from collections.abc import Iterable
from typing import Final, TypeAlias

import orjson

from spokes.core.events import OBJECT_ONLY_KINDS, OBJECT_TYPES, Event, RawEvent

# Portal, object type, kind, object id, `occurredAt`, and what more the kind asks for.
EventIdentity: TypeAlias = tuple[int, str, str, str, int, object]

REDACTED_VALUES: Final = (
    "",
    "REDACTED",
)  # forms that HubSpot has, beside null and leaving it out, for having none to show


class EventKeys:
    """Makes event keys: 20 hex digits, equal for two events exactly if they tell of the same change.

    The key leaves out `attemptNumber` (redeliveries differ in it), `eventId` (not unique, and not promised to be kept
    on redelivery) and `subscriptionId` (the classic and the generic subscription tell of one change). It takes in
    the new value, and is therefore keyed: who reads the audit cannot guess values by trying them out.
    """

    def __init__(self, secret: bytes) -> None:
        self._hash = hashlib.blake2b(key=secret[:64], digest_size=10)

    def __call__(self, event: Event) -> str:
        """Return the key of `event`."""
        (key,) = self.for_identities([_identity(event)])
        return key

    def for_identities(self, identities: Iterable[EventIdentity]) -> list[str]:
        """Return the keys of events of which only that is known which makes them the events they are."""
        keys, copy = [], self._hash.copy
        for identity in identities:
            digest = copy()
            digest.update(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS))
            keys.append(digest.hexdigest())
        return keys


def _identity(event: Event) -> EventIdentity:
    """Everything that makes `event` the event it is; no other event shares it."""
    raw, kind = event.raw, event.kind
    what: object
    if kind == "propertyChange":
        value = raw.get("propertyValue")
        what = (raw["propertyName"], None if value in REDACTED_VALUES else value)
    elif kind in OBJECT_ONLY_KINDS:
        what = None
    elif kind == "associationChange":
        what = _association_identity(raw)
    elif kind == "merge":
        what = (raw.get("primaryObjectId"), raw.get("mergedObjectIds"), raw.get("newObjectId"))
    elif kind == "newMessage":
        what = raw.get("messageId")
    else:  # a kind we do not know: every field counts but the one that redelivery changes
        what = {name: value for name, value in raw.items() if name != "attemptNumber"}
    return event.portal_id, event.object_type, kind, event.object_id, event.occurred_at, what


def _association_identity(raw: RawEvent) -> tuple[object, ...]:
    """Both ends, the label where a user made one, and the direction of the change.

    HubSpot's own association types are left out: the classic dialect has no number for them, and whether the
    association is the primary one is a field of its own in both.
    """
    to_type = raw.get("toObjectTypeId")
    if isinstance(to_type, str):
        to_type = OBJECT_TYPES.get(to_type, to_type)
    else:
        to_type = str(raw.get("associationType", "")).partition("_TO_")[2].lower()
    category = raw.get("associationCategory")
    label = None if category is None or category == "HUBSPOT_DEFINED" else (category, raw.get("associationTypeId"))
    primary = raw.get("isPrimaryAssociation") is True
    return to_type, raw["toObjectId"], label, raw.get("associationRemoved") is True, primary
