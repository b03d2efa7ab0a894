"""The keyed hash that identifies an event across redeliveries.

The key depends only on what an event says, never on how often it was delivered. Pure.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

import orjson

from spokes.core.events import OBJECT_ONLY_KINDS, OBJECT_TYPES, REDACTED, Event
from spokes.core.json_reading.json_fields import read_integer, read_scalar_text

# Portal, object type, kind, object id, `occurredAt`, and what else identifies an event of this kind.
EventIdentity: TypeAlias = tuple[int, str, str, str, int, object]

_USUALLY_RETIRED: Final = (
    2  # ids at most by one merge: that of the other record, and the primary one's if a new id survives
)
_LEAST_COVERING, _MOST_COVERING = 2, 4  # ids ended by one merge; a request cannot make us store many keys
_ATTEMPT_NUMBER: Final = re.compile(rb'"attemptNumber"\s*:\s*"?\d*"?')
REDACTED_VALUES: Final = ("", REDACTED)  # HubSpot's forms of a missing value, other than null and no field
# HubSpot's own types of associations without a label, between the types that the classic dialect has, and of primary
# ones. Source: HubSpot's docs, "Associate records".
_UNLABELLED_TYPES: Final = frozenset(
    ("3", "4", "15", "16", "19", "20", "27", "28", "279", "280", "339", "340", "341", "342", "449", "450", "451", "452")
)
_PRIMARY_TYPES: Final = frozenset(("1", "2", "5", "6", "25", "26"))


class FurtherKeys(NamedTuple):
    """Keys that are marked with an event's own: it is known by its former ones, and not by those that it covers."""

    former: tuple[str, ...]
    covered: tuple[str, ...]


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

    def former(self, event: Event) -> tuple[str, ...]:
        """Return the keys by which versions before this one may know the event, if they are other ones than its key."""
        identities = _former_identities(event)
        return tuple(self.for_identities(identities)) if identities else ()

    def further(self, event: Event) -> FurtherKeys | None:
        """Return the further keys of an event, None if it has none: former ones, and those of events that say less."""
        if event.kind == "propertyChange" and type(event.sent("propertyValue")) is str:  # nearly every event
            return None
        former = self.former(event)
        covered = tuple(self.for_identities(_covered_identities(event))) if event.kind == "merge" else ()
        return FurtherKeys(former, covered) if former or covered else None

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
    """Return everything that distinguishes `event` from every other event.

    Only what every intake says of a change is part of it. Whoever changes it adds the old form to `_former_identities`.
    """
    kind, object_id = event.kind, event.object_id
    details: object
    if kind == "propertyChange":
        value = event.sent("propertyValue")
        if type(value) is not str:
            text = read_scalar_text(value)
            value = value if text is None else text
        details = (event.property_name, None if value in REDACTED_VALUES else value)
    elif kind in OBJECT_ONLY_KINDS:
        details = None
    elif kind == "associationChange":
        details = _association_identity(event)
    elif kind == "merge":
        # A push names the primary record on its own, the journal does not: which ids ended in which is in both.
        object_id, details = event.survivor_id, _retired(event)
    elif kind == "newMessage":
        details = event.sent("messageId")
    else:  # an unknown kind: every field counts except the one that redelivery changes
        details = {name: value for name, value in event.raw.items() if name != "attemptNumber"}
    return event.portal_id, event.object_type, kind, object_id, event.occurred_at, details


def _association_identity(event: Event, *, as_sent: bool = False) -> tuple[object, ...]:
    """Return the other end, the label if there is one, and whether the association was removed.

    `as_sent` leaves the number of the label's type as it is, also if it is text.

    The types of unlabelled and primary associations are left out: the classic dialect has no number for them. Whether
    the association is the primary one is a separate field in both dialects.
    """
    to_type = event.sent("toObjectTypeId")
    if isinstance(to_type, str):
        to_type = OBJECT_TYPES.get(to_type, to_type)
    else:
        to_type = str(event.sent("associationType") or "").partition("_TO_")[2].lower()
    category, type_id = event.sent("associationCategory"), event.sent("associationTypeId")
    number = type_id if as_sent else read_integer(type_id)
    type_id = type_id if number is None else number
    removed, primary = event.sent("associationRemoved") is True, event.sent("isPrimaryAssociation") is True
    without_label = _UNLABELLED_TYPES | _PRIMARY_TYPES if primary else _UNLABELLED_TYPES
    is_own_type = category == "HUBSPOT_DEFINED" and (type_id is None or str(type_id) in without_label)
    label = None if category is None or is_own_type else (category, type_id)
    return to_type, event.sent("toObjectId"), label, removed, primary


def _retired(event: Event) -> list[str]:
    """Return the ids that a merge ended."""
    return sorted({*event.merged_ids}, key=int)


def _covered_identities(event: Event) -> list[EventIdentity]:
    """Return the identities of the merges that name one record less than this one.

    An intake may leave out the primary record. No record ends twice, so it is this merge. The other way round, nothing
    is covered: the event that names more records must run.
    """
    retired = _retired(event)
    if not _LEAST_COVERING <= len(retired) <= _MOST_COVERING:
        return []
    less = ([object_id for object_id in retired if object_id != left_out] for left_out in retired)
    return [_with_details(event, details, int(event.survivor_id)) for details in less]


def _former_identities(event: Event) -> list[EventIdentity]:
    """Return the identities of an event in the format of the versions before 2026-12, none if it is the present one.

    Both formats are checked and marked, so that an event is known to a process of either version. One dedupe window
    after the upgrade, this function and `EventKeys.former` can be removed. Two formats differ: merges were identified
    by the ids as the intake names them, so that a push and the journal's entry of one merge were two events; values and
    types of associations as they were sent, text or number.
    """
    kind = event.kind
    if kind == "propertyChange":
        value = event.sent("propertyValue")
        is_unchanged = value is None or type(value) is str
        return [] if is_unchanged else [_with_details(event, (event.property_name, value))]
    if kind == "associationChange":
        details = _association_identity(event, as_sent=True)
        return [_with_details(event, details)] if details != _association_identity(event) else []
    if kind == "merge":
        sent = (event.sent("primaryObjectId"), event.sent("mergedObjectIds"), event.sent("newObjectId"))
        return [_with_details(event, sent), *_usual_merge_identities(event)]
    return []


def _usual_merge_identities(event: Event) -> list[EventIdentity]:
    """Return the former identities of a merge as each intake usually named it; none for an unusual one."""
    retired = sorted({*map(int, event.merged_ids)})
    survivor = int(event.survivor_id)
    identities: list[EventIdentity] = []
    if len(retired) > _USUALLY_RETIRED:
        return identities
    for primary in (survivor, *retired):
        losers = [object_id for object_id in retired if object_id != primary]
        if losers:
            pushed, journaled = (primary, losers, survivor), (None, [primary, *losers], survivor)
            identities += [_with_details(event, details, survivor) for details in (pushed, journaled)]
    return [*identities, _with_details(event, (None, retired, survivor), survivor)]


def _with_details(event: Event, details: object, object_id: int | None = None) -> EventIdentity:
    own_id = event.object_id if object_id is None else str(object_id)
    return event.portal_id, event.object_type, event.kind, own_id, event.occurred_at, details
