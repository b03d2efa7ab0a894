"""workers.delivery.run_delivery: deliveries run by a whole worker, against the simulator, on a real Valkey."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import TERMINAL, Outcome
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, decode, job_payload, new_delivery_id
from spokes.core.events import Event
from spokes.core.master_key import load_master_key
from spokes.core.redis import keys
from spokes.core.redis.keys import AUDIT_STREAM, IN_PROGRESS_KEY_PREFIX, JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from spokes.queue.erased_objects import remember_erased
from spokes.queue.pauses.portal_pauses import OPERATOR, PortalPauses
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.crm.records import CrmRecord
from tests.support.events import event, recorded
from tests.support.waiting import end, until
from tests.workers.harness import KEYS, PORTAL, Harness, change
from workers.delivery.run_delivery import run_delivery
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd
from workers.worker import build_worker

Drain = Callable[[], Awaitable[None]]


@pytest.fixture
def settings(environ: dict[str, str], hubspot: Simulator) -> Settings:
    # The audit store is unreachable, so that records stay in the stream, where the tests read them.
    more = {
        "RETRY_SCHEDULE_S": "0.05,0.05,0.05",
        "OUTAGE_RETRY_HOURS": "0",
        "DATABASE_URL": "postgres://127.0.0.1:1/none",
    }
    return Settings.from_env({**environ, **more, "HUBSPOT_API_URL": hubspot.url})


def contact(hubspot: Simulator, phone: str = "(415) 555-2671") -> CrmRecord:
    return hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"phone": phone}, USER)


def creation(record: CrmRecord, **fields: object) -> dict[str, object]:
    return event(objectId=int(record.id), occurredAt=record.created_at_ms, **fields)


def phone_change(record: CrmRecord, value: str, *, at: int = 0) -> dict[str, object]:
    change = {"subscriptionType": "contact.propertyChange", "propertyName": "phone", "propertyValue": value}
    return event(objectId=int(record.id), occurredAt=record.created_at_ms + at, **change)


async def queue(redis: Redis, *elements: dict[str, object]) -> Delivery:
    entries = tuple(Entry(KEYS(Event(raw)), 0, raw) for raw in elements)
    delivery = Delivery(new_delivery_id(PORTAL), PORTAL, clock.now_ms(), entries)
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, delivery.received_at))
    await redis.zadd(JOB_QUEUE, {delivery.id: delivery.received_at})
    return delivery


@pytest.fixture
def drain(settings: Settings) -> Drain:
    """Return a function that runs a worker until the queue is empty."""

    async def drain_queue() -> None:
        worker = build_worker(settings, burst=True)
        worker._handle_signals = False
        try:
            await worker.async_run()
        finally:
            await worker.close()

    return drain_queue


async def drain_until(condition: Callable[[], Awaitable[bool]], drain: Drain) -> None:
    """Run a worker whose queue never becomes empty until the condition is true."""
    run = asyncio.ensure_future(drain())
    await until(condition)
    await end(run)


async def outcomes(redis: Redis) -> list[tuple[str, str]]:
    return [(record.outcome.value, record.reason) for record in await recorded(redis) if record.outcome]


async def letters(redis: Redis) -> list[DeadLetter]:
    return [letter async for letter in DeadLetters(redis).list(PORTAL)]


async def test_event_is_processed_and_audited(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    record = contact(hubspot)
    await queue(redis, creation(record))
    await drain()
    assert record.properties["phone"] == "+14155552671"
    assert await outcomes(redis) == [("processed", "")]


async def test_write_is_audited_by_name_and_never_by_value(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    await queue(redis, creation(contact(hubspot)))
    await drain()
    (write,) = [record for record in await recorded(redis) if record.action == "crm.write"]
    assert write.detail.items() >= {"method": "contacts.update", "properties": ["phone"], "ok": True}.items()
    entries = [fields[b"r"] for _, fields in await redis.xrange(AUDIT_STREAM)]
    # Whole phone numbers: an id may contain a few of their digits by chance.
    assert [entry for entry in entries if b"5552671" in entry or b"555-2671" in entry] == []


async def test_events_of_a_delivery_share_batch_calls(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    await queue(redis, *(creation(contact(hubspot)) for _ in range(50)))
    await drain()
    assert len(hubspot.requests.find(path="*/contacts/*")) <= 20  # 2 on a quiet machine, 100 without batches


async def test_transient_failure_is_retried(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    hubspot.faults.add(Fault(path="*/contacts/*", times=2, status=503))
    await queue(redis, creation(contact(hubspot)))
    await drain()
    assert await outcomes(redis) == [("retried", "crm_unavailable")] * 2 + [("processed", "")]


async def test_lasting_transient_failure_becomes_a_dead_letter(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    hubspot.faults.add(Fault(path="*/contacts/*", status=503))
    await queue(redis, creation(contact(hubspot)))
    await drain()
    (letter,) = await letters(redis)
    assert (letter.reason, letter.entry.attempt, letter.handler) == ("crm_unavailable", 4, "contacts.keep_reachable")


async def test_move_of_the_portal_is_one_pause_without_spent_attempts_until_an_operator_resumes(
    redis: Redis, hubspot: Simulator, drain: Drain
) -> None:
    move = hubspot.faults.add(Fault(path="/crm/*", status=477, retry_after="3600"))
    await queue(redis, *(creation(contact(hubspot)) for _ in range(5)))
    pauses = PortalPauses(redis)

    async def all_wait() -> bool:
        parked = await outcomes(redis)
        return len(parked) >= 5 and PORTAL in await pauses.list()

    await drain_until(all_wait, drain)
    pause = (await pauses.list())[PORTAL]
    assert (pause.reason, pause.until) == ("portal_moving", pytest.approx(time.time() + 3600, abs=20))
    assert {outcome for outcome, _ in await outcomes(redis)} <= {"parked"}
    alerts = await redis.lrange(keys.ALERT_OUTBOX, 0, -1)
    assert sum(b"portal_paused" in alert for alert in alerts) == 1
    hubspot.faults.remove(move)
    assert await pauses.operator_resume(PORTAL, actor="ann", reason="it has moved")
    await drain()
    assert [outcome for outcome in await outcomes(redis) if outcome[0] != "parked"] == [("processed", "")] * 5
    assert {record.attempt for record in await recorded(redis) if record.outcome == "processed"} == {1}


async def test_missing_object_becomes_a_dead_letter_at_once(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    await queue(redis, event(objectId=404))
    await drain()
    assert await outcomes(redis) == [("dead", "object_not_found")]
    assert len(await letters(redis)) == 1


async def test_young_object_that_is_not_found_yet_is_looked_for_again(
    redis: Redis, hubspot: Simulator, drain: Drain
) -> None:
    hubspot.faults.add(Fault(path="*/contacts/*", times=1, status=404))
    await queue(redis, creation(contact(hubspot)))
    await drain()
    assert await outcomes(redis) == [("retried", "object_not_found"), ("processed", "")]


async def test_late_event_of_an_erased_object_is_discarded(
    redis: Redis, hubspot: Simulator, drain: Drain, settings: Settings
) -> None:
    """Its id is remembered, hashed; other events of the delivery run."""
    erased, other = contact(hubspot), contact(hubspot)
    async with redis.pipeline() as pipeline:
        key = object_hash_key(load_master_key(settings))
        remember_erased(pipeline, key, PORTAL, "contact", {str(erased.id)})
        await pipeline.execute()
    await queue(redis, creation(erased), creation(other))
    await drain()
    assert sorted(await outcomes(redis)) == [("discarded", "erased"), ("processed", "")]
    assert (await letters(redis), erased.properties["phone"] == "+14155552671") == ([], False)


async def test_missing_object_does_not_affect_others(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    await queue(redis, *(creation(contact(hubspot)) for _ in range(5)), event(objectId=404))
    await drain()
    assert sorted(await outcomes(redis)) == [("dead", "object_not_found")] + [("processed", "")] * 5


async def test_refused_token_parks_events_and_loses_none(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    hubspot.faults.add(Fault(path="*/contacts/*", status=401))
    delivery = await queue(redis, creation(contact(hubspot)))

    async def is_parked() -> bool:
        return ("parked", "not_authorized") in await outcomes(redis)

    await drain_until(is_parked, drain)
    (name,) = await redis.zrange(JOB_QUEUE, 0, -1)
    waiting = Delivery.from_job(decode(await redis.get(JOB_KEY_PREFIX + name.decode()))["a"][0])
    assert waiting.entries == tuple(entry._replace(free_runs=1) for entry in delivery.entries)


async def test_admitted_event_without_a_handler_becomes_a_dead_letter(redis: Redis, drain: Drain) -> None:
    await queue(redis, event(subscriptionType="starship.warp"))
    await drain()
    assert await outcomes(redis) == [("dead", "no_handler")]


async def test_older_change_after_a_newer_one_is_superseded(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    record = contact(hubspot)
    await queue(redis, phone_change(record, "(415) 555-2671", at=10))
    await drain()
    await queue(redis, phone_change(record, "old", at=5))
    await drain()
    assert (await outcomes(redis))[-1] == ("superseded", "newer_change_applied")


async def test_event_of_our_own_write_is_an_echo(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    record = contact(hubspot)
    await queue(redis, creation(record))
    await drain()
    await queue(redis, phone_change(record, "+14155552671", at=50))
    await drain()
    assert (await outcomes(redis))[-1] == ("echo", "own_write")


async def test_settled_events_of_a_delivery_are_not_run_again(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    done, left = contact(hubspot), contact(hubspot)
    delivery = await queue(redis, creation(done), creation(left))
    await redis.sadd(keys.settled_events(PORTAL, delivery.id), delivery.entries[0].key)  # a worker died after it
    await drain()
    assert (done.properties["phone"], left.properties["phone"]) == ("(415) 555-2671", "+14155552671")


LEFTOVERS = (JOB_KEY_PREFIX, keys.RETRY_KEY_PREFIX, IN_PROGRESS_KEY_PREFIX)


async def test_closed_delivery_leaves_nothing_in_redis(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    await queue(redis, creation(contact(hubspot)))
    await drain()
    left = {name.decode() async for name in redis.scan_iter("*")}
    assert not {name for name in left if name.startswith(LEFTOVERS) or ":settled:" in name or ":lane:" in name}


@pytest.mark.parametrize("payload", [b"\x80\x04pickle", b"", b"\x01{}", b'\x01{"f":"other","a":[]}'])
async def test_foreign_job_leaves_the_queue(redis: Redis, drain: Drain, payload: bytes) -> None:
    await redis.set(JOB_KEY_PREFIX + "foreign", payload)
    await redis.zadd(JOB_QUEUE, {"foreign": 1})
    await drain()
    assert await redis.zcard(JOB_QUEUE) == 0


async def test_deal_that_is_won_twice_gets_one_task(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    deal = hubspot.crm.create(hubspot.crm.types.resolve("deals"), {"dealstage": "closedwon"}, USER)
    for at in (1, 2):
        change = {"subscriptionType": "deal.propertyChange", "propertyName": "dealstage", "propertyValue": "closedwon"}
        await queue(redis, event(objectId=int(deal.id), occurredAt=deal.created_at_ms + at, **change))
        await drain()
    assert len(list(hubspot.crm.records(hubspot.crm.types.resolve("tasks")))) == 1


async def test_task_whose_response_was_lost_is_found_and_not_created_again(
    redis: Redis, hubspot: Simulator, drain: Drain
) -> None:
    hubspot.faults.add(Fault(method="POST", path="*/tasks", times=1, status=500, after_effect=True))
    deal = hubspot.crm.create(hubspot.crm.types.resolve("deals"), {"dealstage": "closedwon"}, USER)
    await queue(redis, event(subscriptionType="deal.creation", objectId=int(deal.id)))
    await drain()
    assert (await outcomes(redis))[-1] == ("processed", "")
    assert len(list(hubspot.crm.records(hubspot.crm.types.resolve("tasks")))) == 1


async def test_privacy_deletion_purges_our_data(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    record = contact(hubspot)
    await queue(redis, creation(record))
    await drain()
    await queue(redis, event(objectId=404))
    await drain()
    hubspot.crm.archive(record, USER)
    await queue(redis, event(subscriptionType="contact.privacyDeletion", objectId=int(record.id)))
    await queue(redis, event(subscriptionType="contact.privacyDeletion", objectId=404))
    await drain()
    left = [name.decode() async for name in redis.scan_iter("*")]
    assert not [name for name in left if record.id in name or name.endswith(":404")]
    assert await letters(redis) == []


async def test_replayed_dead_letter_is_a_new_attempt_of_the_same_event(
    redis: Redis, hubspot: Simulator, drain: Drain
) -> None:
    fault = hubspot.faults.add(Fault(path="*/contacts/*", status=403))
    await queue(redis, creation(contact(hubspot)))
    await drain()
    hubspot.faults.remove(fault)
    dead = await letters(redis)
    await DeadLetters(redis).replay(dead, actor="ann", reason="scope granted")
    await drain()
    assert [outcome for outcome, _ in await outcomes(redis)] == ["dead", "replayed", "processed"]
    assert (await recorded(redis))[-1].detail["intake"] == "replay"
    assert await letters(redis) == []


async def test_letter_that_is_replayed_and_discarded_concurrently_is_closed_once(redis: Redis, drain: Drain) -> None:
    await queue(redis, event(objectId=404))
    await drain()
    dead = await letters(redis)
    acts = [DeadLetters(redis).replay, DeadLetters(redis).discard] * 10
    counts = await asyncio.gather(*(act(dead, actor="ann", reason="seen twice") for act in acts))
    acted = [record for record in await recorded(redis) if record.actor == "ann"]
    queued = int(acted[0].outcome is Outcome.REPLAYED)
    assert (sum(counts), len(acted), await redis.zcard(JOB_QUEUE)) == (1, 1, queued)


async def test_discarded_dead_letter_is_deleted(redis: Redis, drain: Drain) -> None:
    await queue(redis, event(objectId=404))
    await drain()
    await DeadLetters(redis).discard(await letters(redis), actor="ann", reason="deleted in HubSpot")
    last = (await recorded(redis))[-1]
    assert (last.outcome, last.actor, await letters(redis)) == (Outcome.DISCARDED, "ann", [])


async def test_every_event_has_one_final_outcome(redis: Redis, hubspot: Simulator, drain: Drain) -> None:
    hubspot.faults.add(Fault(share=0.2, status=502))
    deliveries = [await queue(redis, *(creation(contact(hubspot)) for _ in range(10))) for _ in range(5)]
    await drain()
    ended = [record.event_key for record in await recorded(redis) if record.outcome in TERMINAL]
    assert sorted(ended) == sorted(entry.key for delivery in deliveries for entry in delivery.entries)


async def test_delivery_has_one_log_line(redis: Redis, drain: Drain) -> None:
    delivery = await queue(redis, event(objectId=404), event(2, objectId=405))
    with capture_logs() as lines:
        await drain()
    (line,) = [line for line in lines if line["event"] == "delivery"]
    assert (line["delivery_id"], line["events"], line["dead"]) == (delivery.id, 2, 2)


async def test_run_ends_closed_once_every_event_is_settled(harness: Harness) -> None:
    assert await harness.run((change("a", 1), change("b", 1, object_id=2))) == [DeliveryEnd.CLOSED]


@pytest.fixture
async def job_held_elsewhere(harness: Harness, redis: Redis) -> ClaimedJob:
    """Return a job that another worker has claimed since; its portal is paused, so its event must be postponed."""
    delivery = await harness.queue(change("a", 1))
    await harness.pauses.pause(PORTAL, OPERATOR)
    await redis.set(IN_PROGRESS_KEY_PREFIX + delivery.id, "another")
    return ClaimedJob(delivery.id, delivery.to_job(), 1)


async def test_run_ends_held_elsewhere_if_another_worker_has_the_job(
    harness: Harness, redis: Redis, job_held_elsewhere: ClaimedJob
) -> None:
    assert await run_delivery(job_held_elsewhere, harness.parts) is DeliveryEnd.HELD_ELSEWHERE
    assert (await redis.zcard(JOB_QUEUE), await harness.outcomes()) == (1, [])


@pytest.mark.parametrize("job", [{"unreadable": "gARwaWNrbGU="}, {"id": 1}, [1, 2], "text", None])
async def test_unreadable_job_is_quarantined_and_audited(harness: Harness, redis: Redis, job: Any) -> None:
    assert await run_delivery(ClaimedJob("50112233-1-a", job, 1), harness.parts) is DeliveryEnd.UNREADABLE
    (content,) = [content async for content in harness.parts.quarantine.list(PORTAL)]
    (record,) = [record for record in await recorded(redis) if record.outcome]
    assert (record.outcome, record.reason, record.event_key) == ("dead", "unreadable_delivery", content.key)
