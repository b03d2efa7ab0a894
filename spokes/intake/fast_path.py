"""The usual body, read and sorted out in one pass. Rule: it says what `arrivals.sort_out` would say, or nothing at all.

Usual is what HubSpot sends nearly always: events of one portal, each of a kind that speaks of one object, with fields
that we know. msgspec reads such a body straight into them, checked, in less time than a dictionary for each would
take; whatever it refuses is read the careful way. What follows from an element's type is remembered.
"""

from collections.abc import Collection
from typing import Annotated, Final, NamedTuple, TypeAlias

from msgspec import UNSET, Meta, MsgspecError, Struct, UnsetType, to_builtins
from msgspec.json import Decoder

from spokes.core.delivery import new_delivery_id
from spokes.core.errors import MalformedEvent
from spokes.core.events import OBJECT_ONLY_KINDS, Event
from spokes.intake.allow_list import MAX_CACHED, AllowList, is_cacheable
from spokes.intake.classification import ClassifiedDelivery, without_repeats
from spokes.intake.event_keys import REDACTED_VALUES, EventIdentity, EventKeys

# What the careful way reads exactly; a longer number becomes a float there.
_Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Timestamp: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_OptionalInt: TypeAlias = _Int64 | UnsetType | None
_OptionalText: TypeAlias = str | UnsetType | None


class _Element(Struct, rename="camel", kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """An element with all that it may have, in the order in which HubSpot writes it; it is queued in that order."""

    event_id: _Int64
    subscription_id: _OptionalInt = UNSET
    portal_id: _Int64
    app_id: _OptionalInt = UNSET
    occurred_at: _Timestamp
    subscription_type: str
    attempt_number: _OptionalInt = UNSET
    object_id: _Int64
    object_type_id: _OptionalText = UNSET
    change_flag: _OptionalText = UNSET
    change_source: _OptionalText = UNSET
    source_id: _OptionalText = UNSET
    property_name: _OptionalText = UNSET
    property_value: _OptionalText = UNSET
    is_sensitive: bool | UnsetType | None = UNSET


_DECODE: Final = Decoder(list[_Element]).decode


class _EventType(NamedTuple):
    """What follows from an element's type, object type and property."""

    is_allowed: bool
    object_type: str
    kind: str


class FastPath:
    """Reads usual bodies and sorts them out."""

    def __init__(self, allow_list: AllowList, keys: EventKeys, portal_ids: Collection[int]) -> None:
        """`portal_ids` are those that we serve; empty for all."""
        self._allow_list = allow_list
        self._keys = keys
        self._portal_ids = portal_ids
        self._type_cache: dict[tuple[str, _OptionalText, _OptionalText], _EventType] = {}

    def classify(self, body: bytes, now_ms: int) -> ClassifiedDelivery | None:
        """Return what a request brought; None where anything about it is unusual.

        Args:
            body: of the request, as it came.
            now_ms: when the request came, in epoch milliseconds.
        """
        types = self._type_cache
        ignored: dict[str, int] = {}
        wanted: list[_Element] = []
        times: list[int] = []
        identities: list[EventIdentity] = []
        portals = set()
        try:
            elements = _DECODE(body)
            for element in elements:
                portal_id, name, property_name = element.portal_id, element.subscription_type, element.property_name
                portals.add(portal_id)
                found = types.get((name, element.object_type_id, property_name)) or self._resolve_type(element)
                if found.is_allowed:
                    wanted.append(element)
                    occurred_at = element.occurred_at
                    times.append(occurred_at)
                    what = None
                    if found.kind == "propertyChange":
                        value = element.property_value
                        what = property_name, None if value is UNSET or value in REDACTED_VALUES else value
                    identities.append(
                        (portal_id, found.object_type, found.kind, str(element.object_id), occurred_at, what)
                    )
                else:
                    ignored[name] = ignored.get(name, 0) + 1
        except (MsgspecError, UnicodeDecodeError, RecursionError, MalformedEvent):
            return None
        if len(portals) != 1 or (self._portal_ids and portals.isdisjoint(self._portal_ids)):
            return None
        (portal_id,) = portals
        keys = self._keys.for_identities(identities)
        arrival = ClassifiedDelivery(
            new_delivery_id(portal_id), portal_id, now_ms, keys, times, wanted, len(elements), ignored
        )
        return without_repeats(arrival)

    def _resolve_type(self, element: _Element) -> _EventType:
        """Find out what follows from an element's type.

        Raises:
            MalformedEvent: it is no event, or of a kind that is not usual.
        """
        event = Event(to_builtins(element))
        if event.kind != "propertyChange" and event.kind not in OBJECT_ONLY_KINDS:
            raise MalformedEvent("unusual")
        found = _EventType(self._allow_list.allows(event), event.object_type, event.kind)
        name = element.subscription_type, element.object_type_id, element.property_name
        if len(self._type_cache) < MAX_CACHED and is_cacheable(*name):
            self._type_cache[name] = found
        return found
