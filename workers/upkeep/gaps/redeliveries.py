"""Prove gaps of refused deliveries: every event that was answered with 503 has a dedupe mark by now.

HubSpot sends a refused delivery again for 24 hours. What has not come by then is left to a backfill.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.redis.keys import REFUSED_EVENTS, REFUSED_SPANS
from spokes.gaps.gap import GapCause, Proof, ProvenInterval
from spokes.gaps.refused_deliveries import RefusedEvent, RefusedSpan, episodes, refused_spans
from spokes.gaps.reports import report_proven
from spokes.intake.dedupe.known_events import known_keys

_KEPT_MS: Final = 48 * 3_600_000
_BATCH: Final = 200


async def prove_redeliveries(redis: Redis) -> None:
    """Remove the refused events that have come, and report what is proven by it.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    oldest_ms = clock.now_ms() - _KEPT_MS
    await redis.zremrangebyscore(REFUSED_SPANS, "-inf", oldest_ms)
    # Before the events: those of a span are stored with it, so none of these spans' events is overlooked.
    spans = await refused_spans(redis)
    missing = [at async for at in _still_missing(redis, spans, oldest_ms)]
    for episode in episodes(spans):
        if episode.is_proven(missing):
            proven = ProvenInterval(
                since=episode.since, until=episode.until, proof=Proof.REDELIVERY, only_cause=GapCause.DELIVERIES_REFUSED
            )
            await report_proven(redis, proven)
            await redis.zrem(REFUSED_SPANS, *(span.member for span in episode.spans))


async def _still_missing(redis: Redis, spans: Sequence[RefusedSpan], oldest_ms: int) -> AsyncIterator[int]:
    """Yield when events were refused that have not come; remove the others, and those whose span is removed."""
    cursor = 0
    while True:
        cursor, fields = await redis.hscan(REFUSED_EVENTS, cursor, count=_BATCH)
        events = [event for key, value in fields.items() if (event := RefusedEvent.from_field(key, value)) is not None]
        known = await _known(redis, events)
        done = fields.keys() - {event.key.encode() for event in events}
        for event in events:
            if event.key in known or _is_given_up(event, spans, oldest_ms):
                done.add(event.key.encode())
            else:
                yield event.refused_at
        if done:
            await redis.hdel(REFUSED_EVENTS, *done)  # type: ignore[misc]  # redis-py types one class for sync and async
        if not cursor:
            return


def _is_given_up(event: RefusedEvent, spans: Iterable[RefusedSpan], oldest_ms: int) -> bool:
    """Return whether the event's span is removed; as long as one holds the event, it keeps the span from its proof."""
    return event.refused_at < oldest_ms and not any(span.since <= event.refused_at < span.until for span in spans)


async def _known(redis: Redis, events: list[RefusedEvent]) -> set[str]:
    by_portal: dict[int, list[tuple[str, int]]] = {}
    for event in events:
        by_portal.setdefault(event.portal_id, []).append((event.key, event.occurred_at))
    known: set[str] = set()
    for portal_id, keys in by_portal.items():
        for start in range(0, len(keys), _BATCH):
            known |= await known_keys(redis, portal_id, keys[start : start + _BATCH])
    return known
