"""Replay and discard quarantined contents."""

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis

from spokes.audit.records import Outcome
from spokes.core.settings import Settings
from spokes.intake.event_source import EventSource
from spokes.intake.quarantine_replay import QuarantineReplay, ReplayCounts
from spokes.queue.quarantine import Quarantine, QuarantinedContent
from spokes.routing import load_router


async def replay_contents(
    settings: Settings,
    redis: Redis,
    contents: Sequence[QuarantinedContent],
    *,
    actor: str,
    reason: str,
    address: str = "",
) -> ReplayCounts:
    """Admit the contents as the receiver would take them now; what is still unreadable stays in quarantine.

    Raises:
        ConfigurationError: the handlers cannot be loaded, so which events they want is unknown.
        QueueUnavailable: Redis did not confirm; some contents may be replayed.
    """
    router = await asyncio.to_thread(load_router, settings.handlers)
    source = EventSource.from_settings("replay", redis, settings, router.registrations)
    replay = QuarantineReplay(redis, Quarantine.from_settings(redis, settings), source)
    try:
        return await replay.replay(contents, actor=actor, reason=reason, address=address)
    finally:
        await source.close()


async def discard_contents(
    quarantine: Quarantine, contents: Sequence[QuarantinedContent], *, actor: str, reason: str, address: str = ""
) -> int:
    """Delete the contents for good; return how many were still there.

    Raises:
        RedisError, OSError: Redis does not answer; some contents may be deleted.
    """
    return sum(
        [
            await quarantine.close(content, Outcome.DISCARDED, actor=actor, reason=reason, address=address)
            for content in contents
        ]
    )
