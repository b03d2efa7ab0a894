"""The keyed hash that identifies an event across redeliveries.

The key depends only on what an event says, never on how often it was delivered. Pure.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

import orjson

from spokes.core.events import OBJECT_ONLY_KINDS, OBJECT_TYPES, REDACTED, Event

# Portal, object type, kind, object id, `occurredAt`, and what else identifies an event of this kind.
EventIdentity: TypeAlias = tuple[int, str, str, str, int, object]

_ATTEMPT_NUMBER: Final = re.compile(rb'"attemptNumber"\s*:\s*"?\d*"?')
REDACTED_VALUES: Final = ("", REDACTED)  # HubSpot's forms of a missing value, other than null and no field
# HubSpot's own types of associations without a label, between the types that the classic dialect has, and of primary
# ones. Source: HubSpot's docs, "Associate records".
_UNLABELLED_TYPES: Final = frozenset(
    ("3", "4", "15", "16", "19", "20", "27", "28", "279", "280", "339", "340", "341", "342", "449", "450", "451", "452")
)
_PRIMARY_TYPES: Final = frozenset(("1", "2", "5", "6", "25", "26"))


class EventKeys:
    """Makes event keys: 20 hex digits, equal for two events exactly if they report the same change.

    The key leaves out `attemptNumber` (it differs between redeliveries), `eventId` (not unique, and not promised to
    stay the same on redelivery) and `subscriptionId` (the classic and the generic subscription report the same change).
    It includes the new value. The hash is keyed so that readers of the audit cannot find values by trying them out.
    """

    def __init__(self, secret: bytes) -> None:
        self._hash = hashlib.blake2b(key=secret[:64], digest_size=10)

    def __call__(self, event: Event) -> str:
        """Return the key of `event`."""
        (key,) = self.for_identities([_identity(event)])
        return key

    def for_content(self, content: bytes) -> str:
        """Return the key of an element or body that is no event; it does not depend on HubSpot's attempt either."""
        digest = self._hash.copy()
        digest.update(_ATTEMPT_NUMBER.sub(b"", content))
        return digest.hexdigest()

    def for_identities(self, identities: Iterable[EventIdentity]) -> list[str]:
        """Return the key for each identity tuple, in order."""
        keys, copy = [], self._hash.copy
        for identity in identities:
            digest = copy()
            digest.update(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS))
            keys.append(digest.hexdigest())
        return keys


def _identity(event: Event) -> EventIdentity:
    """Return everything that distinguishes `event` from every other event."""
    kind = event.kind
    details: object
    if kind == "propertyChange":
        value = event.sent("propertyValue")
        details = (event.property_name, None if value in REDACTED_VALUES else value)
    elif kind in OBJECT_ONLY_KINDS:
        details = None
    elif kind == "associationChange":
        details = _association_identity(event)
    elif kind == "merge":
        details = (event.sent("primaryObjectId"), event.sent("mergedObjectIds"), event.sent("newObjectId"))
    elif kind == "newMessage":
        details = event.sent("messageId")
    else:  # an unknown kind: every field counts except the one that redelivery changes
        details = {name: value for name, value in event.raw.items() if name != "attemptNumber"}
    return event.portal_id, event.object_type, kind, event.object_id, event.occurred_at, details


def _association_identity(event: Event) -> tuple[object, ...]:
    """Return the other end, the label if there is one, and whether the association was removed.

    The types of unlabelled and primary associations are left out: the classic dialect has no number for them. Whether
    the association is the primary one is a separate field in both dialects.
    """
    to_type = event.sent("toObjectTypeId")
    if isinstance(to_type, str):
        to_type = OBJECT_TYPES.get(to_type, to_type)
    else:
        to_type = str(event.sent("associationType") or "").partition("_TO_")[2].lower()
    category, type_id = event.sent("associationCategory"), event.sent("associationTypeId")
    removed, primary = event.sent("associationRemoved") is True, event.sent("isPrimaryAssociation") is True
    without_label = _UNLABELLED_TYPES | _PRIMARY_TYPES if primary else _UNLABELLED_TYPES
    is_own_type = category == "HUBSPOT_DEFINED" and (type_id is None or str(type_id) in without_label)
    label = None if category is None or is_own_type else (category, type_id)
    return to_type, event.sent("toObjectId"), label, removed, primary
