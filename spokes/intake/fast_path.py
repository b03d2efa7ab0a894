"""Classify common bodies in one pass. Returns exactly what `classification.classify` would, or None.

Common is what HubSpot sends nearly always: events of one portal, each of a kind that concerns one object, with fields
that we know. msgspec parses such a body into checked structs in less time than making a dictionary for each element
takes; the slow path handles what it rejects. What follows from an element's type is cached.
"""

from collections.abc import Collection
from typing import Annotated, Final, NamedTuple, TypeAlias

from msgspec import UNSET, Meta, MsgspecError, Struct, UnsetType, to_builtins
from msgspec.json import Decoder

from spokes.core.delivery import new_delivery_id
from spokes.core.errors import MalformedEvent
from spokes.core.events import OBJECT_ONLY_KINDS, Event
from spokes.core.priority import BULK_SOURCES, Priority
from spokes.intake.allow_list import MAX_CACHED, AllowList, is_cacheable
from spokes.intake.arrivals import Arrival, Arrivals
from spokes.intake.classification import AdmissionEvent, ClassifiedDelivery, without_repeats
from spokes.intake.event_keys import REDACTED_VALUES, EventIdentity, EventKeys

# The integers that the slow path reads exactly; there, a longer one becomes a float.
_Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Id: TypeAlias = Annotated[int, Meta(gt=0, le=2**63 - 1)]  # of a portal or an object
_Timestamp: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_OptionalInt: TypeAlias = _Int64 | UnsetType | None
_OptionalText: TypeAlias = str | UnsetType | None


class _Element(Struct, rename="camel", kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """An element with all fields it may have, in HubSpot's order, which is also their order in the queue."""

    event_id: _Int64
    subscription_id: _OptionalInt = UNSET
    portal_id: _Id
    app_id: _OptionalInt = UNSET
    occurred_at: _Timestamp
    subscription_type: str
    attempt_number: _OptionalInt = UNSET
    object_id: _Id
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
    arrival: Arrival


class FastPath:
    """Classifies common bodies."""

    def __init__(
        self, allow_list: AllowList, keys: EventKeys, portal_ids: Collection[int], arrivals: Arrivals | None = None
    ) -> None:
        """`portal_ids` are the portals we serve; empty for all. `arrivals` counts what arrives."""
        self._allow_list = allow_list
        self._keys = keys
        self._portal_ids = portal_ids
        self._arrivals = arrivals or Arrivals()
        self._type_cache: dict[tuple[str, _OptionalText, _OptionalText], _EventType] = {}

    def classify(self, body: bytes, now_ms: int) -> list[ClassifiedDelivery] | None:
        """Return the deliveries of a request, one for each priority class, or None if the body is not a common one.

        Args:
            body: of the request, unchanged.
            now_ms: when the request arrived, in epoch ms.
        """
        try:
            elements = _DECODE(body)
            portals = {element.portal_id for element in elements}
            if len(portals) != 1 or (self._portal_ids and portals.isdisjoint(self._portal_ids)):
                return None
            (portal_id,) = portals
            if portal_id in self._allow_list.portals:  # it has an allow list of its own
                return None
            ignored: list[Arrival] = []
            deliveries = [
                self._classify_group(portal_id, priority, group, now_ms, ignored)
                for priority, group in _by_priority(elements)
            ]
        except (MsgspecError, UnicodeDecodeError, RecursionError, MalformedEvent):
            return None
        self._arrivals.count_request(now_ms)
        for arrival in ignored:  # only now: the slow path counts what this one gives up
            arrival.ignored += 1
        return deliveries

    def _classify_group(
        self,
        portal_id: int,
        priority: Priority,
        elements: list[_Element],
        now_ms: int,
        ignored_arrivals: list[Arrival],
    ) -> ClassifiedDelivery:
        """Return the delivery of elements of one priority class; add what is ignored to `ignored_arrivals`.

        Raises:
            MalformedEvent: an element is not a valid event, or its kind is not a common one.
        """
        type_cache = self._type_cache
        ignored: dict[str, int] = {}
        allowed: list[_Element] = []
        times: list[int] = []
        identities: list[EventIdentity] = []
        for element in elements:
            name, property_name = element.subscription_type, element.property_name
            cache_key = name, element.object_type_id, property_name
            event_type = type_cache.get(cache_key) or self._resolve_type(element)
            event_type.arrival.last_at = now_ms
            if event_type.is_allowed:
                allowed.append(element)
                occurred_at = element.occurred_at
                times.append(occurred_at)
                details = None
                if event_type.kind == "propertyChange":
                    value = element.property_value
                    details = property_name, None if value is UNSET or value in REDACTED_VALUES else value
                object_type, object_id = event_type.object_type, str(element.object_id)
                identities.append((portal_id, object_type, event_type.kind, object_id, occurred_at, details))
            else:
                ignored[name] = ignored.get(name, 0) + 1
                ignored_arrivals.append(event_type.arrival)
        events = [*map(AdmissionEvent, self._keys.for_identities(identities), times, allowed)]
        delivery = ClassifiedDelivery(
            new_delivery_id(portal_id), portal_id, now_ms, events, len(elements), ignored, priority=priority
        )
        return without_repeats(delivery)

    def _resolve_type(self, element: _Element) -> _EventType:
        """Return what follows from an element's type, and cache it.

        Raises:
            MalformedEvent: the element is not a valid event, or its kind is not a common one.
        """
        event = Event(to_builtins(element))
        if event.kind != "propertyChange" and event.kind not in OBJECT_ONLY_KINDS:
            raise MalformedEvent("unusual")
        event_type = _EventType(self._allow_list.allows(event), event.object_type, event.kind, self._arrivals.of(event))
        cache_key = element.subscription_type, element.object_type_id, element.property_name
        if len(self._type_cache) < MAX_CACHED and is_cacheable(*cache_key):
            self._type_cache[cache_key] = event_type
        return event_type


def _by_priority(elements: list[_Element]) -> list[tuple[Priority, list[_Element]]]:
    """Return the elements of each priority class that has any, in the order in which the classes are served."""
    sources = {element.change_source for element in elements}
    if sources.isdisjoint(BULK_SOURCES):
        return [("interactive", elements)]
    if sources <= BULK_SOURCES:
        return [("import", elements)]
    return [
        ("interactive", [element for element in elements if element.change_source not in BULK_SOURCES]),
        ("import", [element for element in elements if element.change_source in BULK_SOURCES]),
    ]
