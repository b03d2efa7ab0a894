"""Parse a request body into events and malformed elements. A malformed element never affects the others."""

from collections import Counter
from typing import Any, Final, NamedTuple

import orjson

from spokes.core.errors import MalformedEvent, RejectedRequest
from spokes.core.events import Event
from spokes.core.refusals import Refusal

# Malformed elements recorded one by one. HubSpot sends at most this many elements; a hostile body can hold 5,000,000.
_MAX_LISTED: Final = 100
_MAX_DEPTH: Final = 200  # levels of an element; orjson reads 1,024 but writes 254, and a job adds some around it


class MalformedElement(NamedTuple):
    """An element that is not a valid event: its index in the body, the reason, and its `eventId` if it has one."""

    position: int
    reason: str
    event_id: int | None = None


class ParsedBody(NamedTuple):
    """The events of a body in order; the first malformed elements singly, and the rest counted by reason."""

    events: list[Event]
    malformed: list[MalformedElement]
    unlisted: Counter[str]


def parse_json(body: bytes) -> list[Any]:
    """Return the elements of a request body: a JSON array, or a single object, which counts as an array of one.

    Integers of up to 64 bits stay exact, which covers every number HubSpot sends; a longer one becomes a float.

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
    """Split `elements`, which were parsed from `body`, into events and malformed elements."""
    # Each level opens with a bracket: a body with few brackets, such as HubSpot's, needs no depth check.
    may_be_deep = body.count(b"[") + body.count(b"{") > _MAX_DEPTH
    events: list[Event] = []
    malformed: list[MalformedElement] = []
    unlisted: Counter[str] = Counter()
    for position, element in enumerate(elements):
        try:
            if may_be_deep and _is_too_deep(element):
                raise MalformedEvent("nested_too_deep")  # noqa: TRY301 - handled like every other fault below
            events.append(Event(element))
        except MalformedEvent as error:
            if len(malformed) == _MAX_LISTED:
                unlisted[error.reason] += 1
                continue
            event_id = element.get("eventId") if isinstance(element, dict) else None
            malformed.append(MalformedElement(position, error.reason, event_id if type(event_id) is int else None))
    return ParsedBody(events, malformed, unlisted)


def _is_too_deep(element: object) -> bool:
    """Return whether an element is nested too deep to be serialised again."""
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
