"""Delete everything that Redis holds for one portal; every event that still waits is recorded as discarded."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.records import Outcome
from spokes.core.delivery import Delivery, Entry
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert
from spokes.privacy.redis_purge import DEFAULT_QUEUE_PLACE, QUEUE_PLACE, JobKeys, drop_events
from spokes.queue.dead_letters import DeadLetters
from spokes.queue.quarantine import Quarantine
from spokes.queue.unreadable_jobs import find_mentioning

UNINSTALLED: Final = "uninstalled"  # the reason of each discarded event
_ACTOR: Final = "spokes"
_SCAN_COUNT: Final = 1000  # keys
_SETS: Final = (keys.PORTALS, keys.QUARANTINE_PORTALS)  # whose members are portals
_SORTED_SETS: Final = (keys.CREDENTIAL_PORTALS, keys.BUDGET_PORTALS)
_JOB_PREFIXES: Final = tuple(
    prefix
    for place in (QUEUE_PLACE, DEFAULT_QUEUE_PLACE)
    for prefix in (place.job_prefix, place.retry_prefix, place.in_progress_prefix)
)


@dataclass(frozen=True, slots=True)
class PortalPurge:
    """How much of a portal was deleted. `busy` deliveries are being run by a worker, so they remain."""

    events: int = 0
    dead_letters: int = 0
    quarantined: int = 0
    keys: int = 0
    busy: int = 0


@dataclass(frozen=True, slots=True)
class _WholePortal:
    """All entries of a portal's deliveries."""

    portal_id: int

    def matching_entries(self, delivery: Delivery) -> tuple[Entry, ...]:
        """Return every entry."""
        return delivery.entries if delivery.portal_id == self.portal_id else ()


async def purge_portal(redis: Redis, portal_id: int, quarantine: Quarantine) -> PortalPurge:
    """Delete everything of a portal; it may be repeated.

    Raises:
        RedisError, OSError: Redis does not answer; what was deleted before that stays deleted.
    """
    events, busy = 0, 0
    for place in (QUEUE_PLACE, DEFAULT_QUEUE_PLACE):
        async for delivery_id in _queued_ids(redis, portal_id, place):
            dropped = await drop_events(redis, delivery_id, _WholePortal(portal_id), _ACTOR, place, reason=UNINSTALLED)
            events, busy = events + (dropped or 0), busy + (dropped is None)
    letters = await DeadLetters(redis).discard(
        [letter async for letter in DeadLetters(redis).list(portal_id)], actor=_ACTOR, reason=UNINSTALLED
    )
    contents = [content async for content in quarantine.list(portal_id)]
    for content in contents:
        await quarantine.close(content, Outcome.DISCARDED, actor=_ACTOR, reason=UNINSTALLED)
    for job in await find_mentioning(redis, {str(portal_id)}):
        await redis.lrem(keys.UNREADABLE_JOBS, 0, job)  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and forgets bytes
    await _end_alerts(redis, portal_id)
    await _remove_members(redis, portal_id)
    deleted = 0
    if not busy:  # a worker that runs one of the portal's deliveries needs its keys
        async for names in portal_keys(redis, portal_id):
            deleted += await redis.unlink(*names)
    return PortalPurge(events, letters, len(contents), deleted, busy)


async def portal_keys(redis: Redis, portal_id: int) -> AsyncIterator[list[bytes]]:
    """Yield the names of the portal's keys, its jobs included, in pages without empty ones."""
    prefixes = (keys.portal_prefix(portal_id), *(f"{prefix}{portal_id}-" for prefix in _JOB_PREFIXES))
    starts, sealed = tuple(prefix.encode() for prefix in prefixes), f"{keys.SEALED_PREFIX}{portal_id}".encode()
    cursor = 0
    while True:
        cursor, names = await redis.scan(cursor, match=f"*:{portal_id}*", count=_SCAN_COUNT)
        if found := [name for name in names if name.startswith(starts) or name == sealed]:
            yield found
        if cursor == 0:
            return


async def _queued_ids(redis: Redis, portal_id: int, place: JobKeys) -> AsyncIterator[str]:
    for queue in place.queues:
        if await redis.type(queue) != b"zset":
            continue
        found = [name async for name, _ in redis.zscan_iter(queue, match=f"{portal_id}-*", count=_SCAN_COUNT)]
        for name in dict.fromkeys(found):
            yield name.decode()


async def _end_alerts(redis: Redis, portal_id: int) -> None:
    episodes = AlertEpisodes(redis)
    for name in await episodes.active(""):
        alert, _, subject = name.partition(":")
        if alert in set(Alert) and str(portal_id) in subject.split(":"):
            await episodes.set_state(Alert(alert), subject=subject, portal_id=portal_id, is_active=False)


async def _remove_members(redis: Redis, portal_id: int) -> None:
    name = str(portal_id)
    async with redis.pipeline(transaction=True) as pipeline:
        for key in _SETS:
            pipeline.srem(key, name)
        for key in _SORTED_SETS:
            pipeline.zrem(key, name)
        pipeline.hdel(keys.PAUSED_PORTALS, name)
        await pipeline.execute()
    start = f"{name}:".encode()
    fields = [field for field in await redis.hkeys(keys.PAUSED_CALLS) if field.startswith(start)]  # type: ignore[misc]  # as above
    members = [member for member in await redis.smembers(keys.HELD_SETS) if member.startswith(start)]  # type: ignore[misc]  # as above
    objects = [member async for member, _ in redis.zscan_iter(keys.ERASED_OBJECTS, match=f"{name}:*")]
    async with redis.pipeline(transaction=True) as pipeline:
        if fields:
            pipeline.hdel(keys.PAUSED_CALLS, *fields)
        if members:
            pipeline.srem(keys.HELD_SETS, *members)
        if objects:
            pipeline.zrem(keys.ERASED_OBJECTS, *objects)
        await pipeline.execute()
