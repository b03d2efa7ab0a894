"""Replay and discard quarantined contents."""

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis

from spokes.audit.records import Outcome
from spokes.core.masking import derive_key
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.event_keys import EventKeys
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
    admission = Admission(redis, dedupe_ttl_s=settings.dedupe_hours * 3600, timeout_s=settings.redis_timeout_s)
    replay = QuarantineReplay(
        redis,
        Quarantine.from_settings(redis, settings),
        admission,
        allow_list=AllowList(router.registrations, settings.allowed_events),
        keys=EventKeys(derive_key(load_master_key(settings), "event keys")),
        portal_ids=settings.portal_ids,
    )
    try:
        return await replay.replay(contents, actor=actor, reason=reason, address=address)
    finally:
        await admission.close()


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
