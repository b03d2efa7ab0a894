"""Keys, numbers and expiry of dedupe marks; admission.lua stores them. Pure.

A dedupe mark is 60 bits of an event's key: the chance that two of ten million events in an hour share a mark is 1 in
23,000. The upper 32 bits of the mark in reverse order are its number, which selects the set that holds it. Marks are
grouped by the hour of `occurredAt`, which redelivery does not change: one look-up is enough, and whole hours expire
together. An event with further keys has a mark for each of them.
"""

from collections.abc import Sequence
from operator import attrgetter
from struct import unpack
from typing import Final, NamedTuple

import orjson

from spokes.core.redis.keys import dedupe_marks_prefix
from spokes.intake.classification import AdmissionEvent

HOUR_MS: Final = 3_600_000
_FURTHER_KEYS: Final = attrgetter("further")
_NOBODY: Final = -1  # in place of an event's index: no event is known by the mark
_REVERSED_BITS: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def script_args(
    portal_id: int, events: Sequence[AdmissionEvent], *, now_ms: int, dedupe_ttl_s: int
) -> list[bytes | str | int]:
    """Return admission.lua's arguments for the marks of one delivery: the number of hours, then four for each hour.

    Args:
        portal_id: the portal of the events.
        events: the events to mark.
        now_ms: epoch ms.
        dedupe_ttl_s: how long a mark is kept at least, in seconds.
    """
    groups = _with_further_keys(events) if any(map(_FURTHER_KEYS, events)) else _by_hour(events)
    args: list[bytes | str | int] = [len(groups)]
    for hour, (keys, indexes) in groups.items():
        expires_at, is_extended = _expiry(hour, now_ms // 1000, dedupe_ttl_s)
        marks_json = orjson.dumps((*marks_and_set_numbers(keys), indexes))
        args += [dedupe_marks_prefix(portal_id, hour), expires_at, int(is_extended), marks_json]
    return args


class _Group(NamedTuple):
    """The keys of one hour, and for each the index of its event; no indexes if they are all events, in order."""

    keys: list[str]
    indexes: list[int]


def _by_hour(events: Sequence[AdmissionEvent]) -> dict[int, _Group]:
    """Return the keys of events that have one each."""
    hours = {event.occurred_at // HOUR_MS for event in events}
    if len(hours) == 1:
        return {hour: _Group([event.key for event in events], []) for hour in hours}
    groups = {hour: _Group([], []) for hour in hours}
    for index, event in enumerate(events):
        group = groups[event.occurred_at // HOUR_MS]
        group.keys.append(event.key)
        group.indexes.append(index)
    return groups


def _with_further_keys(events: Sequence[AdmissionEvent]) -> dict[int, _Group]:
    """Return all keys of events, those of one event once each."""
    groups: dict[int, _Group] = {}
    for index, event in enumerate(events):
        former, covered = event.further or ((), ())
        indexes = dict.fromkeys(covered, _NOBODY) | dict.fromkeys((event.key, *former), index)
        group = groups.setdefault(event.occurred_at // HOUR_MS, _Group([], []))
        group.keys.extend(indexes)
        group.indexes.extend(indexes.values())
    return groups


def marks_and_set_numbers(keys: list[str]) -> tuple[list[str], tuple[int, ...]]:
    """Return the marks, as decimal text because Lua's numbers are exact to 53 bits only, and the marks' numbers."""
    digests = bytes.fromhex("".join(keys))  # ten bytes each; the mark is the first eight without their last four bits
    upper = unpack(f">{'Q2x' * len(keys)}", digests)
    # Reversing the bits of each byte and reading the bytes from the other end reverses all bits.
    return [str(bits >> 4) for bits in upper], unpack(f"<{'I6x' * len(keys)}", digests.translate(_REVERSED_BITS))


def _expiry(hour: int, now_s: int, dedupe_ttl_s: int) -> tuple[int, bool]:
    """Return when an hour's marks expire (epoch seconds), and whether each further mark extends that.

    All events of an hour that arrive in time share one expiry. For late events, and for senders with a wrong clock,
    the expiry is counted from now.
    """
    expires_at = (hour + 1) * (HOUR_MS // 1000) + dedupe_ttl_s
    earliest, latest = now_s + dedupe_ttl_s, now_s + dedupe_ttl_s + 2 * (HOUR_MS // 1000)
    return min(max(expires_at, earliest), latest), not earliest <= expires_at <= latest
