"""What *Now* shows is what the audit counts, and both are what the simulated HubSpot sent."""

import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL, AuditRecord, Outcome
from spokes.console.queries.throughput import throughput
from spokes.core.redis.keys import METRIC_HISTORY
from spokes.core.settings import RECEIVER_PATH
from spokes.core.telemetry.metric_history import append_snapshot, load_snapshots, take_snapshot
from spokes.queue.dead_letters import DeadLetters
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import PortalConfig, SenderConfig, SimulatorConfig, Subscription, Target
from spokes.simulator.demo import wait_until_ready
from tests.support.deployment import PUBLIC_URL, SECRET
from tests.support.events import recorded
from tests.support.free_ports import free_port
from tests.support.handlers.failing import always_fails, fails_once
from tests.support.processes.running_processes import RunningProcesses

CONTACTS, DEALS, DISCARDED = 30, 7, 2


@pytest.mark.slow
async def test_now_shows_what_the_audit_counts_and_the_simulator_sent(
    redis: Redis, environ: dict[str, str], processes: RunningProcesses
) -> None:
    """Every event is sent twice; the first ones come before any worker runs, the last ones in another minute."""
    port = free_port()
    target = Target(f"{PUBLIC_URL}{RECEIVER_PATH}", f"http://127.0.0.1:{port}{RECEIVER_PATH}")
    portal = PortalConfig(subscriptions=(Subscription("contact.creation"), Subscription("deal.creation")))
    environ |= {"DATABASE_URL": "postgres://127.0.0.1:1/none", "TRUSTED_PROXIES": "1"}
    environ |= {"PORT": str(port), "HOST": "127.0.0.1", "HUBSPOT_ACCESS_TOKEN": portal.token}
    environ |= {"HANDLERS": "tests.support.handlers.failing"}
    config = SimulatorConfig((portal,), client_secret=SECRET, target=target, sender=SenderConfig(duplicate_share=1.0))
    async with Simulator(config) as sim:
        processes.start("ingest", environ)
        await wait_until_ready(f"http://127.0.0.1:{port}")
        ids = create(sim, "contacts", CONTACTS // 2)
        await sim.sender.wait_until_drained()
        processes.start("workers", {**environ, "HUBSPOT_API_URL": sim.url})
        await wait_for_ends(redis, len(ids))
        await end_minute(redis)
        ids += create(sim, "contacts", CONTACTS - len(ids))
        create(sim, "deals", DEALS)
        await sim.sender.send([{"eventId": 1}], portal_id=portal.portal_id)
        await sim.sender.wait_until_drained()
        await wait_for_ends(redis, CONTACTS)
    letters = [letter async for letter in DeadLetters(redis).list(portal.portal_id)]
    await DeadLetters(redis).discard(letters[:DISCARDED], actor="ada", reason="a test")

    dead, retried = sum(map(always_fails, ids)), sum(map(fails_once, ids))
    truth = {
        "admitted": CONTACTS, "duplicate": CONTACTS, "ignored": 2 * DEALS, "quarantined": 1,
        "processed": CONTACTS - dead, "dead": dead, "retried": retried, "ended": CONTACTS,
    }  # fmt: skip
    records = await recorded(redis)
    assert audited(records) == truth
    assert sum(record.outcome is Outcome.DISCARDED for record in records) == DISCARDED
    assert await shown(redis, truth) == truth


def create(sim: Simulator, kind: str, count: int) -> list[str]:
    """Create records; return their ids."""
    return [sim.crm.create(sim.crm.types.resolve(kind), {}, USER).id for _ in range(count)]


def audited(records: list[AuditRecord]) -> dict[str, int]:
    """Return what the audit counts."""
    heads = [record.detail for record in records if record.action == "delivery.received"]
    counts = Counter({name: sum(head[name] for head in heads) for name in ("admitted", "duplicate")})
    counts["ignored"] = sum(sum(head["ignored"].values()) for head in heads)
    counts["quarantined"] = sum(head["set_aside"] for head in heads)
    counts.update(str(record.outcome) for record in records if record.outcome in {*TERMINAL, Outcome.RETRIED})
    counts["ended"] = len({record.event_key for record in records if record.outcome in TERMINAL})
    del counts["discarded"]  # by an operator, of events that had ended
    return dict(counts)


async def shown(redis: Redis, expected: dict[str, int]) -> dict[str, int]:
    """Return what *Now* shows, once every process has added its counts."""
    deadline = time.monotonic() + 90
    while True:
        minutes = await throughput(redis, None)
        assert minutes is not None
        counts = Counter[str]()
        for minute in minutes:
            counts.update({name: round(count) for name, count in (minute.results | minute.outcomes).items()})
            counts["ended"] += round(minute.ended)
        if counts == expected or time.monotonic() > deadline:
            assert len(minutes) > 1
            return dict(counts)
        await asyncio.sleep(0.5)


async def end_minute(redis: Redis) -> None:
    """Make what was counted so far a minute of its own, as if the snapshots before were a minute older."""
    older = [replace(snapshot, at=snapshot.at - 60_000) for snapshot in await load_snapshots(redis)]
    await redis.delete(METRIC_HISTORY)
    for snapshot in (*older, await take_snapshot(redis)):
        await append_snapshot(redis, snapshot)


async def wait_for_ends(redis: Redis, count: int) -> None:
    """Wait until `count` events have a final outcome."""
    deadline = time.monotonic() + 90
    while len({record.event_key for record in await recorded(redis) if record.outcome in TERMINAL}) < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
