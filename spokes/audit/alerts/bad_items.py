"""Read items that Redis holds: an unreadable item costs itself alone. It is skipped, counted and alerted."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.errors import MalformedEvent, UnreadableDelivery
from spokes.core.telemetry.alerts import Alert

Item = TypeVar("Item")
Result = TypeVar("Result")

# What reading foreign bytes raises: of another encoding, another JSON type, without a field, too deep, too large.
READ_ERRORS: Final = (
    UnreadableDelivery, MalformedEvent, ValueError, TypeError, LookupError, AttributeError, OverflowError,
    RecursionError,
)  # fmt: skip
_REPEAT_AFTER_S: Final = 600.0
_collected: ContextVar[Counter[str] | None] = ContextVar("collected", default=None)
_last_reported: dict[str, float] = {}  # by place; pages read the same item every few seconds


async def read_items(redis: Redis, place: str, items: Iterable[Item], read: Callable[[Item], Result]) -> list[Result]:
    """Return what `read` makes of each item, without those that it cannot read.

    `place` names the kind of item in the alert.
    """
    results: list[Result] = []
    bad_count = 0
    for item in items:
        try:
            results.append(read(item))
        except READ_ERRORS:
            bad_count += 1
    if bad_count:
        await report_bad_items(redis, place, bad_count)
    return results


@contextmanager
def collect_bad_items() -> Iterator[Counter[str]]:
    """Count the unreadable items that this task and those it starts meet: by place, or by key if all of it is."""
    counts = Counter[str]()
    token = _collected.set(counts)
    try:
        yield counts
    finally:
        _collected.reset(token)


async def report_bad_items(redis: Redis, place: str, count: int, *, key: str = "") -> None:
    """Alert about unreadable items, once in ten minutes per place and process; `key` holds another type of value."""
    if (counts := _collected.get()) is not None:
        counts[key or place] += count
    now = time.monotonic()
    if now - _last_reported.get(place, -_REPEAT_AFTER_S) < _REPEAT_AFTER_S:
        return
    _last_reported[place] = now
    with suppress(RedisError, OSError):  # the log has it
        await AlertEpisodes(redis).report_once(Alert.REDIS_ITEM_UNREADABLE, place=place, count=count)
