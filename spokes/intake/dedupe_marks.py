"""Marks of events that were admitted: where they are kept, and until when. Rule: pure; admission.lua keeps them.

A mark is a whole number of 60 bits out of an event's key: that two of ten million in an hour are equal has a chance of
1 in 23,000. Its number, which tells in which set it is kept, is its upper 32 bits in reverse. It is filed under the
hour of `occurredAt`, which redelivery does not change: one look-up is enough, and whole hours expire together.
"""

from collections.abc import Sequence
from struct import unpack
from typing import Final

import orjson

_HOUR_MS: Final = 3_600_000
_REVERSED_BITS: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def script_args(
    portal_id: int, keys: list[str], times: Sequence[int], *, now_ms: int, dedupe_ttl_s: int
) -> list[bytes | str | int]:
    """Return what admission.lua is told of a delivery's marks: the number of periods, then four words for each.

    Args:
        portal_id: whose events they are.
        keys: of the events.
        times: when they happened, `occurredAt` in epoch milliseconds.
        now_ms: epoch milliseconds.
        keep_s: how long a mark is kept at least, in seconds.
    """
    hours = [time // _HOUR_MS for time in times]
    places_of: dict[int, list[int]] = {hour: [] for hour in set(hours)}  # none, where all are of one hour
    if len(places_of) > 1:
        for place, hour in enumerate(hours, start=1):
            places_of[hour].append(place)
    words: list[bytes | str | int] = [len(places_of)]
    for hour, places in places_of.items():
        expires, refresh = _expiry(hour, now_ms // 1000, dedupe_ttl_s)
        marks, numbers = _marks_and_set_numbers([keys[place - 1] for place in places] if places else keys)
        words += [f"spokes:{portal_id}:seen:{hour}:", expires, int(refresh), orjson.dumps((marks, numbers, places))]
    return words


def _marks_and_set_numbers(keys: list[str]) -> tuple[list[str], tuple[int, ...]]:
    """The marks of events, in decimal as Lua's numbers are not exact so far up, and their numbers."""
    digests = bytes.fromhex("".join(keys))  # ten bytes each, of which the mark is the first eight less four bits
    upper = unpack(f">{'Q2x' * len(keys)}", digests)
    # Reversing the bits of each byte and reading the bytes from the other end reverses all bits.
    return [str(one >> 4) for one in upper], unpack(f"<{'I6x' * len(keys)}", digests.translate(_REVERSED_BITS))


def _expiry(hour: int, now_s: int, dedupe_ttl_s: int) -> tuple[int, bool]:
    """When the marks of an hour expire (epoch seconds), and whether every further mark puts that off.

    It is the same for a whole hour of events that are told when they happen; for old news and for a sender with a
    wrong clock it is counted from now.
    """
    expires = (hour + 1) * (_HOUR_MS // 1000) + dedupe_ttl_s
    soonest, latest = now_s + dedupe_ttl_s, now_s + dedupe_ttl_s + 2 * (_HOUR_MS // 1000)
    return min(max(expires, soonest), latest), not soonest <= expires <= latest
