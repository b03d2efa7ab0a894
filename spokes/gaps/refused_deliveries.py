"""Deliveries that were answered with 503: a gap until HubSpot's next attempts have brought their events.

A web process notes the keys of the events that it refuses, where it knows them: a request that is refused before its
body is read cannot be proven by later ones. Redis keeps what is noted; a worker compares it with the dedupe marks
(workers.upkeep.gaps.redeliveries).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, cast

import structlog
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.json_reading.json_fields import read_bigint, read_id
from spokes.core.redis.keys import GAP_REPORTS, REFUSED_EVENTS, REFUSED_SPANS
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.reports import encode

REPORT_EVERY_S: Final = 5.0
DELIVERY_MARGIN_MS: Final = 60_000  # how long before a delivery its events may have occurred
_MAX_NOTED: Final = 20_000  # events in the memory of one process
_MAX_KEPT: Final = 100_000  # events in Redis
_KEY: Final = re.compile(rb"[0-9a-f]{20}")
log = structlog.get_logger()


class RefusedEvent(NamedTuple):
    """An event of a refused delivery, by its event key; times are epoch ms."""

    portal_id: int
    key: str
    occurred_at: int
    refused_at: int = 0

    @property
    def value(self) -> str:
        """The value in Redis."""
        return f"{self.portal_id}:{self.occurred_at}:{self.refused_at}"

    @classmethod
    def from_field(cls, key: bytes, value: bytes) -> "RefusedEvent | None":
        """Return an event in its stored form, None if it is none."""
        portal, _, times = value.decode(errors="replace").partition(":")
        occurred, _, refused = times.partition(":")
        portal_id, occurred_at, refused_at = read_id(portal), read_bigint(occurred), read_bigint(refused)
        if portal_id is None or occurred_at is None or refused_at is None or not _KEY.fullmatch(key):
            return None
        return cls(portal_id, key.decode(), occurred_at, refused_at)


class RefusedSpan(NamedTuple):
    """When deliveries were refused: `since` <= t < `until` (epoch ms); and whether all their events are noted."""

    since: int
    until: int
    is_identified: bool

    @property
    def member(self) -> str:
        """The member in Redis."""
        return f"{self.since}:{self.until}:{int(self.is_identified)}"

    @classmethod
    def from_member(cls, member: bytes) -> "RefusedSpan | None":
        """Return a span in its stored form, None if it is none."""
        since, _, rest = member.decode(errors="replace").partition(":")
        until, _, flag = rest.partition(":")
        begin, end = read_bigint(since), read_bigint(until)
        return None if begin is None or end is None else cls(begin, end, flag == "1")


class Episode(NamedTuple):
    """Spans that touch: one gap."""

    spans: Sequence[RefusedSpan]

    @property
    def since(self) -> int:
        """The begin of the first span."""
        return min(span.since for span in self.spans)

    @property
    def until(self) -> int:
        """The end of the last span."""
        return max(span.until for span in self.spans)

    def is_proven(self, refused_at: Iterable[int]) -> bool:
        """Return whether every refused event has come; `refused_at` are the times of those that have not."""
        is_identified = all(span.is_identified for span in self.spans)
        return is_identified and not any(self.since <= at < self.until for at in refused_at)


class RefusedDeliveries:
    """The refused deliveries of one web process since the last report."""

    def __init__(self, redis: Redis) -> None:
        """Report to `redis`, which the caller closes."""
        self._redis = redis
        self._times: tuple[int, int] | None = None  # epoch ms of the first and the last refused delivery
        self._unidentified = 0  # refused deliveries whose events are not noted
        self._events: dict[str, RefusedEvent] = {}

    def refuse(self) -> None:
        """Take note that a delivery is answered with 503 now."""
        now = clock.now_ms()
        self._times = (now if self._times is None else self._times[0], now)
        self._unidentified += 1

    def identify(self, events: Iterable[RefusedEvent]) -> None:
        """Take note of the events of a delivery that is refused; call `refuse` for it too."""
        now = clock.now_ms()
        for event in events:
            if len(self._events) >= _MAX_NOTED:
                return
            self._events.setdefault(event.key, event._replace(refused_at=now))
        self._unidentified -= 1

    async def report(self) -> None:
        """Report what was refused since the last report.

        Raises:
            RedisError, OSError: Redis does not answer; the next call reports it.
        """
        if self._times is None:
            return
        (first, last), unidentified, events = self._times, self._unidentified, list(self._events.values())
        is_kept = unidentified <= 0 and await self._redis.hlen(REFUSED_EVENTS) + len(events) <= _MAX_KEPT  # type: ignore[misc]  # redis-py types one class for sync and async
        missed = MissedInterval(since=first - DELIVERY_MARGIN_MS, until=last + 1, cause=GapCause.DELIVERIES_REFUSED)
        span = RefusedSpan(missed.since, missed.until, is_kept)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.rpush(GAP_REPORTS, encode(missed))
            pipeline.zadd(REFUSED_SPANS, {span.member: span.until})
            for event in events if is_kept else ():
                pipeline.hsetnx(REFUSED_EVENTS, event.key, event.value)  # its first refusal counts
            await pipeline.execute()
        self._unidentified -= unidentified
        for event in events:
            self._events.pop(event.key, None)
        # A delivery that was refused during the calls above is reported by the next one.
        self._times = None if self._times == (first, last) else (last, self._times[1])


def episodes(spans: Iterable[RefusedSpan]) -> list[Episode]:
    """Return the spans in groups that touch. Pure."""
    groups: list[list[RefusedSpan]] = []
    until = 0
    for span in sorted(spans):
        if not groups or span.since > until:
            groups.append([])
            until = span.until
        groups[-1].append(span)
        until = max(until, span.until)
    return [Episode(group) for group in groups]


async def refused_spans(redis: Redis) -> list[RefusedSpan]:
    """Return the spans that are not proven.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    members = cast("list[bytes]", await redis.zrange(REFUSED_SPANS, 0, -1))
    return [span for member in members if (span := RefusedSpan.from_member(member)) is not None]
