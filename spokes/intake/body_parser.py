"""Parse a request body into events and malformed elements. A malformed element never affects the others."""

import itertools
from collections import Counter
from typing import Any, Final, NamedTuple

import orjson

from spokes.core.delivery import MAX_BODY_VALUES
from spokes.core.errors import MalformedEvent, RejectedRequest
from spokes.core.events import Event
from spokes.core.json_reading.json_fields import read_bigint, read_id
from spokes.core.json_reading.json_size import has_more_values
from spokes.core.refusals import Refusal
from spokes.intake.element_spans import element_spans, read_element

# Malformed elements kept one by one. HubSpot sends at most this many elements; a hostile body can hold 5,000,000.
_MAX_LISTED: Final = 100
_MAX_DEPTH: Final = 200  # levels of an element; orjson reads 1,024 but writes 254, and a job adds some around it


class MalformedElement(NamedTuple):
    """An element that is not a valid event: its index in the body, the reason, and its ids if they are readable."""

    position: int
    reason: str
    content: bytes = b""  # its part of the body, unchanged
    portal_id: int | None = None
    event_id: int | None = None


class ParsedBody(NamedTuple):
    """The events of a body in order; the first malformed elements singly, and the rest counted by reason."""

    events: list[Event]
    malformed: list[MalformedElement]
    unlisted: Counter[str]


class _Unreadable(NamedTuple):
    """In place of an element that is not JSON."""

    reason: str


def parse_body(body: bytes) -> ParsedBody:
    """Return the events and malformed elements of a request body: a JSON array, or a single object as its only element.

    Of duplicate names in an object the last one counts. Integers of up to 64 bits stay exact, which covers every number
    HubSpot sends; a longer one becomes a float.

    Raises:
        RejectedRequest: the body cannot be split into elements.
    """
    # Each level opens with a bracket: a body with few brackets, such as HubSpot's, needs no depth check.
    may_be_deep = body.count(b"[") + body.count(b"{") > _MAX_DEPTH
    events: list[Event] = []
    malformed: list[MalformedElement] = []
    unlisted: Counter[str] = Counter()
    for position, element in enumerate(_elements(body)):
        try:
            if may_be_deep and is_too_deep(element):
                raise MalformedEvent("nested_too_deep")  # noqa: TRY301 - handled like every other fault below
            if type(element) is _Unreadable:
                raise MalformedEvent(element.reason)  # noqa: TRY301 - likewise
            events.append(Event(element))
        except MalformedEvent as error:
            if len(malformed) == _MAX_LISTED:
                unlisted[error.reason] += 1
                continue
            fields = element if isinstance(element, dict) else {}
            portal_id, event_id = read_id(fields.get("portalId")), read_bigint(fields.get("eventId"))
            malformed.append(MalformedElement(position, error.reason, portal_id=portal_id, event_id=event_id))
    return ParsedBody(events, _with_contents(malformed, body), unlisted)


def _elements(body: bytes) -> list[Any]:
    """Return the elements of a body, with `_Unreadable` in place of those that are not JSON.

    Raises:
        RejectedRequest: the body cannot be split into elements, or has more values than a worker would read.
    """
    if has_more_values(body, MAX_BODY_VALUES):
        raise RejectedRequest(Refusal.BODY_TOO_LARGE)
    try:
        elements = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return [*map(_read_or_unreadable, element_spans(body))]
        except ValueError:
            raise RejectedRequest(Refusal.BODY_NOT_JSON) from None
    if isinstance(elements, dict):
        return [elements]
    if not isinstance(elements, list):
        raise RejectedRequest(Refusal.BODY_NOT_A_BATCH)
    return elements


def _read_or_unreadable(span: bytes) -> Any:
    try:
        return read_element(span)
    except RecursionError:
        return _Unreadable("nested_too_deep")
    except ValueError:
        return _Unreadable("not_json")


def _with_contents(malformed: list[MalformedElement], body: bytes) -> list[MalformedElement]:
    """Add to each malformed element its part of the body; the body is split as far as the last one of them."""
    if not malformed:
        return malformed
    spans = enumerate(itertools.islice(element_spans(body), malformed[-1].position + 1))
    by_position = {element.position: element for element in malformed}
    return [by_position[position]._replace(content=content) for position, content in spans if position in by_position]


def is_too_deep(element: object) -> bool:
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
