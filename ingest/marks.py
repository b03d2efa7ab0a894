"""Marks of events that were admitted: where they are kept, and until when. Rule: pure; admission.lua keeps them.

A mark is a whole number of 60 bits out of an event's key: that two of ten million in an hour are equal has a chance of
1 in 23,000. It is filed under the hour of `occurredAt`, which redelivery does not
change, so that one look-up is enough and whole hours expire together.
"""

from collections.abc import Sequence
from struct import unpack
from typing import Final

from core.deliveries import Entry

_HOUR_MS: Final = 3_600_000


def arguments(portal_id: int, entries: Sequence[Entry], *, now_ms: int, keep_s: int) -> list[bytes | str | int]:
    """Return what admission.lua is told of a delivery's marks: the number of periods, then five words for each.

    Args:
        portal_id: whose events they are.
        entries: the events; their raw elements have `occurredAt`.
        now_ms: epoch milliseconds.
        keep_s: how long a mark is kept at least, in seconds.
    """
    hours = {entry.raw["occurredAt"] // _HOUR_MS for entry in entries}
    words: list[bytes | str | int] = [len(hours)]
    for hour in hours:
        expires, refresh = _expiry(hour, now_ms // 1000, keep_s)
        told, spots = entries, ""
        if len(hours) > 1:
            places = [at for at, entry in enumerate(entries) if entry.raw["occurredAt"] // _HOUR_MS == hour]
            told, spots = [entries[at] for at in places], ",".join([str(at + 1) for at in places])
        # The first eight bytes of each key's ten, less four bits.
        numbers = unpack(f">{'Q2x' * len(told)}", bytes.fromhex("".join([entry.key for entry in told])))
        marks = ",".join([str(number >> 4) for number in numbers])
        words += [f"spokes:{portal_id}:seen:{hour}:", expires, int(refresh), marks, spots]
    return words


def _expiry(hour: int, now_s: int, keep_s: int) -> tuple[int, bool]:
    """When the marks of an hour expire (epoch seconds), and whether every further mark puts that off.

    It is the same for a whole hour of events that are told when they happen; for old news and for a sender with a
    wrong clock it is counted from now.
    """
    expires = (hour + 1) * (_HOUR_MS // 1000) + keep_s
    soonest, latest = now_s + keep_s, now_s + keep_s + 2 * (_HOUR_MS // 1000)
    return min(max(expires, soonest), latest), not soonest <= expires <= latest
