"""Count what HubSpot sends: when each event type last arrived, how many events nothing accepts, and in which hours.

A web process counts in memory, and adds its counts to one Redis hash a day every few seconds. Names of types and
properties are HubSpot's; a text that is no name may be personal and is not stored.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import read_items
from spokes.core.events import GENERIC_NAME, JOURNAL_NAME, Event, event_name
from spokes.core.redis.keys import arrivals_of_day
from spokes.intake.allow_list import MAX_CACHED, AllowList

FLUSH_EVERY_S: Final = 5.0
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
_KEPT_S: Final = 35 * 86_400
# The fields of a day's hash are a prefix and a name: a spelling of an event, an hour of the day, or a portal.
_AT: Final = "at"
_IGNORED: Final = "ignored"
_HOUR: Final = "hour"
_UNSERVED: Final = "unserved"


class Arrival:
    """When an event type last arrived, and how many of its events nothing accepted since the last flush."""

    __slots__ = ("ignored", "last_at", "name", "stored_at")

    def __init__(self, name: str) -> None:
        self.name = name
        self.last_at = 0  # epoch ms
        self.stored_at = 0
        self.ignored = 0


class Arrivals:
    """The counts of one web process."""

    def __init__(self) -> None:
        self._by_name: dict[str, Arrival] = {}
        self._hours: Counter[int] = Counter()  # requests by the number of the hour since the epoch
        self._unserved: Counter[int] = Counter()  # events by portal

    def of(self, event: Event) -> Arrival:
        """Return the arrival of the event's type and property, which the caller changes."""
        name = event_name(event)
        known = self._by_name.get(name)
        if known is not None:
            return known
        arrival = Arrival(name)
        if name and len(self._by_name) < MAX_CACHED:
            self._by_name[name] = arrival
        return arrival

    def note_journal(
        self, events: Iterable[Event], now_ms: int, *, allow_list: AllowList, portal_ids: Collection[int]
    ) -> None:
        """Note when events came by HubSpot's journal, which says nothing about the target URL, and what is ignored.

        Args:
            events: of the journal.
            now_ms: when they came, in epoch ms.
            allow_list: accepts the events that are not ignored.
            portal_ids: the portals we serve; empty for all.
        """
        by_name: dict[str, list[Event]] = {}
        for event in events:
            if portal_ids and event.portal_id not in portal_ids:
                self.count_unserved(event.portal_id, 1)
            elif name := event_name(event):
                by_name.setdefault(name, []).append(event)
        for name, same in by_name.items():
            spelled = name.removesuffix(GENERIC_NAME) + JOURNAL_NAME
            if spelled not in self._by_name and len(self._by_name) >= MAX_CACHED:
                continue
            arrival = self._by_name.setdefault(spelled, Arrival(spelled))
            arrival.last_at = now_ms
            if not allow_list.allows(same[0]):  # which depends on what the name says
                arrival.ignored += len(same)

    def count_request(self, now_ms: int) -> None:
        """Count a request that has events."""
        self._hours[now_ms // HOUR_MS] += 1

    def count_unserved(self, portal_id: int, events: int) -> None:
        """Count the events of a portal that PORTAL_IDS does not list."""
        if portal_id in self._unserved or len(self._unserved) < MAX_CACHED:
            self._unserved[portal_id] += events

    async def flush(self, redis: Redis, now_ms: int) -> None:
        """Add the counts since the last flush to those in Redis. If Redis' response is lost, they are added twice.

        Raises:
            RedisError, OSError: Redis does not answer; the next flush adds the counts.
        """
        hours, unserved = dict(self._hours), dict(self._unserved)
        changed = [(each, each.last_at, each.ignored) for each in self._by_name.values()
                   if each.ignored or each.last_at != each.stored_at]  # fmt: skip
        if not hours and not changed and not unserved:
            return
        async with redis.pipeline(transaction=True) as pipeline:
            today = arrivals_of_day(now_ms // DAY_MS)
            for hour, count in hours.items():
                pipeline.hincrby(arrivals_of_day(hour // 24), f"{_HOUR} {hour % 24}", count)
            for portal_id, count in unserved.items():
                pipeline.hincrby(today, f"{_UNSERVED} {portal_id}", count)
            for arrival, last_at, ignored in changed:
                pipeline.hset(arrivals_of_day(last_at // DAY_MS), f"{_AT} {arrival.name}", str(last_at))
                if ignored:
                    pipeline.hincrby(today, f"{_IGNORED} {arrival.name}", ignored)
            for day in {now_ms // DAY_MS, *(hour // 24 for hour in hours)}:
                pipeline.expire(arrivals_of_day(day), _KEPT_S)
            await pipeline.execute()
        self._hours.subtract(hours)
        self._hours = +self._hours
        self._unserved.subtract(unserved)
        self._unserved = +self._unserved
        for arrival, last_at, ignored in changed:
            arrival.stored_at = last_at
            arrival.ignored -= ignored


@dataclass(slots=True)
class StoredArrivals:
    """What all web processes counted in some days. Names are those of `event_name`.

    Attributes:
        at: the newest arrival of each name on each day that had one, epoch ms, oldest day first.
        ignored: events of each name that nothing accepted.
        hours: the hours, as numbers since the epoch, in which requests with events came.
        unserved: events of each portal that PORTAL_IDS does not list.
    """

    at: dict[str, list[int]] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    hours: set[int] = field(default_factory=set)
    unserved: Counter[int] = field(default_factory=Counter)


async def read_arrivals(redis: Redis, days: Iterable[int], *, recent_days: int) -> StoredArrivals:
    """Return what arrived on days, given as numbers since the epoch; events are counted in the last `recent_days`.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    stored = StoredArrivals()
    ordered = sorted(days)
    for day in ordered:
        is_recent = day > ordered[-1] - recent_days
        fields: dict[bytes, bytes] = await redis.hgetall(arrivals_of_day(day))  # type: ignore[misc]  # redis-py types one class for sync and async
        for kind, name, value in await read_items(redis, "arrival", fields.items(), _read_field):
            if kind == _AT:
                stored.at.setdefault(name, []).append(value)
            elif kind == _IGNORED and is_recent:
                stored.ignored[name] += value
            elif kind == _HOUR:
                stored.hours.add(day * 24 + int(name))
            elif kind == _UNSERVED and is_recent:
                stored.unserved[int(name)] += value
    return stored


def _read_field(item: tuple[bytes, bytes]) -> tuple[str, str, int]:
    kind, _, name = item[0].decode().partition(" ")
    if kind in {_HOUR, _UNSERVED}:
        int(name)
    return kind, name, int(item[1])
