"""Erase what Redis holds on a CRM object: dead letters, ledgers and marks. Rule: the erasure itself is recorded."""

from dataclasses import replace

from redis.asyncio import Redis

from audit.records import Action, Outcome, event_record
from audit.stream import append
from core.events import Event
from workers import keys
from workers.dead_letters import DeadLetters


async def forget(redis: Redis, event: Event) -> None:
    """Erase what is held on the event's object, and record how much it was."""
    portal_id, object_type, object_id = event.portal_id, event.object_type, event.object_id
    letters = [
        letter.entry.key
        async for letter in DeadLetters(redis).list(portal_id)
        if (letter.entry.event.object_type, letter.entry.event.object_id) == (object_type, object_id)
    ]
    lane = keys.lane(portal_id, object_type, object_id).encode()  # ours while we erase, and it holds nothing
    ledgers = [
        key
        for suffix in ("", ":*")
        async for key in redis.scan_iter(match=f"spokes:{portal_id}:*:{object_type}:{object_id}{suffix}", count=1000)
        if key != lane
    ]
    erased = event_record(
        event,
        Outcome.PROCESSED,
        key="",
        delivery_id="",
        detail={"dead_letters": len(letters), "ledgers": len(ledgers)},
    )
    async with redis.pipeline(transaction=True) as pipeline:
        if letters:
            pipeline.delete(*(keys.dead(portal_id, key) for key in letters))
            pipeline.zrem(keys.dead_index(portal_id), *letters)
        if ledgers:
            pipeline.delete(*ledgers)
        append(pipeline, replace(erased, action=Action.PRIVACY_ERASED, outcome=None))
        await pipeline.execute()
