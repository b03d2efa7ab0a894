"""A request's body, read: the events in it, and the elements that are none. Rule: one bad element costs no other."""

from collections import Counter
from typing import Any, Final, NamedTuple

import orjson

from spokes.core.errors import MalformedEvent, RejectedRequest
from spokes.core.events import Event
from spokes.core.refusals import Refusal

_MAX_LISTED: Final = 100  # elements that are no events; HubSpot sends so many a request, a body holds 5,000,000 zeros
_MAX_DEPTH: Final = 200  # levels of an element; orjson reads 1,024 but writes 254, and a job puts some around it


class MalformedElement(NamedTuple):
    """An element that is not an event: its place in the batch, why it was set aside, and its id where it has one."""

    position: int
    reason: str
    event_id: int | None = None


class ParsedBody(NamedTuple):
    """The events of a body in their order, and the elements that are none: the first few each, the rest by reason."""

    events: list[Event]
    malformed: list[MalformedElement]
    unlisted: Counter[str]


def parse_json(body: bytes) -> list[Any]:
    """Return the elements of a request's body: a JSON array; a single object counts as an array of one.

    Whole numbers are exact up to 64 bits, which HubSpot's own never leave; a longer one becomes a float.

    Raises:
        RejectedRequest: the body is not JSON, or neither array nor object.
    """
    try:
        elements = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RejectedRequest(Refusal.BODY_NOT_JSON) from None
    if isinstance(elements, dict):
        return [elements]
    if not isinstance(elements, list):
        raise RejectedRequest(Refusal.BODY_NOT_A_BATCH)
    return elements


def split_events(elements: list[Any], body: bytes) -> ParsedBody:
    """Return the events among the `elements` that were read from `body`, and those that are none."""
    # Each level opens with a bracket; where those are few, as in what HubSpot sends, none needs to be looked through.
    deep = body.count(b"[") + body.count(b"{") > _MAX_DEPTH
    events: list[Event] = []
    quarantined: list[MalformedElement] = []
    more: Counter[str] = Counter()
    for place, element in enumerate(elements):
        try:
            if deep and _is_too_deep(element):
                raise MalformedEvent("nested_too_deep")  # noqa: TRY301 - it takes the same way as every other fault
            events.append(Event(element))
        except MalformedEvent as fault:
            if len(quarantined) == _MAX_LISTED:
                more[fault.reason] += 1
                continue
            event_id = element.get("eventId") if isinstance(element, dict) else None
            quarantined.append(MalformedElement(place, fault.reason, event_id if type(event_id) is int else None))
    return ParsedBody(events, quarantined, more)


def _is_too_deep(element: object) -> bool:
    """Whether an element is nested so deep that it could be read but not written."""
    level = [element]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
