"""Read the entries of a page: events, installs and uninstalls, and what is neither, which is kept unread. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from spokes.core.errors import MalformedEvent
from spokes.core.events import Event
from spokes.core.json_reading.json_fields import read_bigint, read_id
from spokes.intake.body_parser import MalformedElement, ParsedBody, is_too_deep
from spokes.intake.element_spans import read_element
from spokes.intake.journal.entries import elements_of, lifecycle_of
from spokes.intake.journal.page_scanner import PageScanner, UnreadablePage
from spokes.portals.lifecycles import Lifecycle

UNRECOGNISED: Final = "unrecognised_entry"
_MANY_BRACKETS: Final = 200  # an entry with fewer is not nested too deep


class PageEvents(NamedTuple):
    """What a part of a page holds."""

    parsed: ParsedBody
    lifecycles: Sequence[Lifecycle] = ()


def read_entries(entries: Sequence[bytes], first: int = 0) -> PageEvents:
    """Read entries as `PageScanner` returns them; `first` is the index of the first one in its page.

    An entry of which any part is no valid event is malformed as a whole, and its other parts are events all the same.
    """
    events: list[Event] = []
    malformed: list[MalformedElement] = []
    lifecycles: list[Lifecycle] = []
    for index, entry in enumerate(_parse(entries)):
        reason = ""
        elements = None
        if not isinstance(entry, dict):
            reason = "not_json" if isinstance(entry, _Unreadable) else "not_an_object"
        elif entries[index].count(b"{") + entries[index].count(b"[") > _MANY_BRACKETS and is_too_deep(entry):
            reason = "nested_too_deep"
        elif (lifecycle := lifecycle_of(entry)) is not None:
            lifecycles.append(lifecycle)
            continue
        elif (elements := elements_of(entry)) is None:
            reason = UNRECOGNISED
        for element in elements or ():
            try:
                events.append(Event(element))
            except MalformedEvent as error:
                reason = error.reason
        if reason:
            fields = entry if isinstance(entry, dict) else {}
            ids = read_id(fields.get("portalId")), read_bigint(fields.get("eventId"))
            malformed.append(MalformedElement(first + index, reason, entries[index], *ids))
    return PageEvents(ParsedBody(events, malformed, Counter()), lifecycles)


def read_content(content: bytes) -> ParsedBody:
    """Read a page or an entry that was kept in quarantine, as this version understands it."""
    try:
        entries = PageScanner().feed(content)
    except UnreadablePage:
        entries = [content]
    return read_entries(entries).parsed


class _Unreadable(NamedTuple):
    """In place of an entry that is not JSON."""


def _parse(entries: Sequence[bytes]) -> list[object]:
    try:
        return list(orjson.loads(b"[" + b",".join(entries) + b"]"))
    except orjson.JSONDecodeError:
        return [*map(_parse_one, entries)]


def _parse_one(entry: bytes) -> object:
    try:
        return read_element(entry)
    except (ValueError, RecursionError):
        return _Unreadable()
