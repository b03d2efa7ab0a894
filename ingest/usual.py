"""The usual batch, sorted out in one pass. Rule: it says what `arrivals.sort_out` would say, or nothing at all.

Usual is what HubSpot sends nearly always: events of one portal, each of a kind whose fields are known. No event is made
of an element here; what follows from its type is remembered from the first of that type, of which one was made.
"""

from collections.abc import Collection
from functools import partial
from operator import itemgetter
from typing import Any, Final, NamedTuple

from core.deliveries import Entry, new_id
from core.errors import MalformedEvent
from core.event_keys import EventKeys, Identity, changed
from core.events import BARE_KINDS, Event
from ingest.allow_list import MOST_REMEMBERED, AllowList, memorable
from ingest.arrivals import Arrival, without_repeated

_FIELDS: Final = itemgetter("subscriptionType", "portalId", "occurredAt", "eventId", "objectId")
_entry = partial(tuple.__new__, Entry)  # a third of the price


class _Type(NamedTuple):
    """What follows from an element's type, object type and property."""

    wanted: bool
    object_type: str
    kind: str


class Usual:
    """Sorts usual batches out."""

    def __init__(self, allow_list: AllowList, keys: EventKeys, portal_ids: Collection[int]) -> None:
        """`portal_ids` are those that we serve; empty for all."""
        self._allow_list = allow_list
        self._keys = keys
        self._portal_ids = portal_ids
        self._types: dict[tuple[str, object, object], _Type] = {}

    def sort_out(self, elements: list[Any], now_ms: int) -> Arrival | None:
        """Return what a request brought; None where anything about it is unusual.

        Args:
            elements: of the body; one that is nested too deep to be written is found out here or by admission.
            now_ms: when the request came, in epoch milliseconds.
        """
        types = self._types
        ignored: dict[str, int] = {}
        raws: list[dict[str, Any]] = []
        identities: list[Identity] = []
        portals = set()
        try:
            for raw in elements:
                name, portal_id, occurred_at, event_id, object_id = _FIELDS(raw)
                if not type(portal_id) is type(occurred_at) is type(event_id) is type(object_id) is int:
                    return None
                if occurred_at < 0:
                    return None
                portals.add(portal_id)
                property_name = raw.get("propertyName")
                found = types.get((name, raw.get("objectTypeId"), property_name)) or self._learn(raw)
                if found.wanted:
                    raws.append(raw)
                    what = changed(raw) if found.kind == "propertyChange" else None
                    identities.append((portal_id, found.object_type, found.kind, str(object_id), occurred_at, what))
                else:
                    ignored[name] = ignored.get(name, 0) + 1
            keys = self._keys.of(identities)  # a value that is nested too deep cannot be written
        except (KeyError, TypeError, AttributeError, MalformedEvent):
            return None
        if len(portals) != 1 or (self._portal_ids and portals.isdisjoint(self._portal_ids)):
            return None
        (portal_id,) = portals
        entries = tuple(map(_entry, zip(keys, (0,) * len(keys), raws, strict=True)))
        return without_repeated(Arrival(new_id(portal_id), portal_id, now_ms, entries, len(elements), ignored))

    def _learn(self, raw: dict[str, Any]) -> _Type:
        """Find out what follows from an element's type.

        Raises:
            MalformedEvent: it is no event, or of a kind that is not usual.
        """
        event = Event(raw)
        if event.kind != "propertyChange" and event.kind not in BARE_KINDS:
            raise MalformedEvent("unusual")
        found = _Type(self._allow_list.wants(event), event.object_type, event.kind)
        name = raw["subscriptionType"], raw.get("objectTypeId"), raw.get("propertyName")
        if len(self._types) < MOST_REMEMBERED and memorable(*name):
            self._types[name] = found
        return found
