"""Redis items that another version wrote: unknown fields and names cost nothing, and end no background task."""

import asyncio
import contextlib

import orjson
from redis.asyncio import Redis

from spokes.console.queries.alerts import active_alerts
from spokes.core.delivery import Delivery, Entry, decode
from spokes.core.redis.keys import ALERTS_ACTIVE, PAUSED_PORTALS
from spokes.core.redis.outage import RedisOutage
from spokes.queue.dead_letters import DeadLetter
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.support.events import event


async def test_pauses_of_another_version_end_no_watch(redis: Redis) -> None:
    now = {"why": "operator", "since": 1.0, "until": None}
    pauses = {"7": {**now, "by": "ada"}, "8": {"since": "x"}, "not a portal": now, "9": [], "10": now}
    await redis.hset(PAUSED_PORTALS, mapping={name: orjson.dumps(pause) for name, pause in pauses.items()})
    portal_pauses = PortalPauses(redis)
    task = asyncio.create_task(portal_pauses.watch(RedisOutage(), "pauses"))
    async with asyncio.timeout(50):
        while not portal_pauses.is_paused(10):  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.01)
    assert portal_pauses.is_paused(7)
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_alerts_of_another_version_are_listed(redis: Redis) -> None:
    await redis.hset(ALERTS_ACTIVE, mapping={"of_tomorrow": b'{"since": 1, "new": 2}', "portal_paused:7": b"broken"})
    assert [alert.name for alert in await active_alerts(redis, None)] == ["of_tomorrow"]


def test_unknown_fields_of_a_delivery_are_ignored() -> None:
    job = {"id": "7-1-a", "portal": 7, "at": 1, "events": [["aa", 0, event(1), "lane"]], "colour": "red"}
    assert Delivery.from_job(job) == Delivery("7-1-a", 7, 1, (Entry("aa", 0, event(1)),))


def test_dead_letter_keeps_its_intake_and_one_without_was_pushed() -> None:
    journal = DeadLetter(7, "7-1-a", Entry("aa", 0, event(1), intake="journal"), "conflict", "h", 1)
    pushed = DeadLetter(7, "7-1-a", Entry("aa", 0, event(1)), "conflict", "h", 1)
    assert [DeadLetter.from_bytes(letter.to_bytes()) for letter in (journal, pushed)] == [journal, pushed]
    assert "intake" not in decode(pushed.to_bytes())
