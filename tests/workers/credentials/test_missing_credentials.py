"""workers.delivery.missing_credentials: events of a portal run only with that portal's credentials."""

import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, decode, job_payload, new_delivery_id
from spokes.core.errors import NoCredentials
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.queue.dead_letters import DeadLetters
from spokes.simulator.app import Simulator
from tests.support.events import recorded
from tests.workers.harness import KEYS, PORTAL, Harness, change
from workers.delivery.missing_credentials import MissingCredentials
from workers.delivery.run_delivery import run_delivery
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd

OTHER = 99887766
DAY_MS = 86_400_000


async def queue_other(redis: Redis, *values: str) -> ClaimedJob:
    """Queue a delivery of a portal whose token we do not have."""
    raws = [change(value, number, portalId=OTHER) for number, value in enumerate(values, 1)]
    entries = tuple(Entry(KEYS(Event(raw)), 0, raw) for raw in raws)
    delivery = Delivery(new_delivery_id(OTHER), OTHER, 1, entries)
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, 1))
    await redis.zadd(JOB_QUEUE, {delivery.id: 1})
    return ClaimedJob(delivery.id, delivery.to_job(), 1)


async def claim_parked(redis: Redis) -> ClaimedJob:
    """Return the only parked delivery, as a worker claims it."""
    (name,) = await redis.zrange(keys.parked_deliveries(OTHER), 0, -1)
    job = decode(await redis.get(JOB_KEY_PREFIX + name.decode()))
    return ClaimedJob(name.decode(), job["a"][0], 1)


@pytest.fixture
async def other_worker(redis: Redis) -> MissingCredentials:
    """Another worker, which has the credentials of the other portal."""

    class OtherPortal:
        portals = (OTHER,)

    return MissingCredentials(redis, OtherPortal())  # type: ignore[arg-type]  # calls nothing


async def test_events_of_another_portal_are_parked_with_one_alert(redis: Redis, harness: Harness) -> None:
    jobs = [await queue_other(redis, "a", "b"), await queue_other(redis, "c")]
    assert [await run_delivery(job, harness.parts) for job in jobs] == [DeliveryEnd.CLOSED] * 2
    assert (await harness.outcomes(), harness.calls) == ([("parked", "no_credentials")] * 3, [])
    records = await recorded(redis)
    assert [record.reason for record in records if record.action == "alert.began"] == [f"no_credentials:{OTHER}"]
    assert {record.attempt for record in records if record.outcome} == {0}
    due_in_ms = [score - clock.now_ms() for _, score in await redis.zrange(JOB_QUEUE, 0, -1, withscores=True)]
    assert all(DAY_MS - 60_000 < due <= DAY_MS for due in due_in_ms)


async def test_parked_events_become_dead_letters_after_a_day(redis: Redis, harness: Harness) -> None:
    await run_delivery(await queue_other(redis, "a"), harness.parts)
    job = await claim_parked(redis)
    await redis.zadd(keys.parked_deliveries(OTHER), {job.id: clock.now_ms() - DAY_MS})
    assert await run_delivery(job, harness.parts) is DeliveryEnd.CLOSED
    assert await harness.outcomes() == [("parked", "no_credentials"), ("dead", "no_credentials")]
    assert await DeadLetters(redis).portals() == [OTHER]
    assert not await redis.exists(keys.parked_deliveries(OTHER))
    assert f"no_credentials:{OTHER}".encode() not in await redis.hkeys(keys.ALERTS_ACTIVE)


async def test_worker_with_the_credentials_makes_parked_events_due(
    redis: Redis, harness: Harness, other_worker: MissingCredentials
) -> None:
    await run_delivery(await queue_other(redis, "a"), harness.parts)
    await other_worker.announce()
    ((_, due_ms),) = await redis.zrange(JOB_QUEUE, 0, -1, withscores=True)
    assert due_ms <= clock.now_ms()
    assert f"no_credentials:{OTHER}".encode() not in await redis.hkeys(keys.ALERTS_ACTIVE)


async def test_delivery_is_left_to_a_live_worker_that_has_the_credentials(
    redis: Redis, harness: Harness, other_worker: MissingCredentials
) -> None:
    await other_worker.announce()
    job = await queue_other(redis, "a")
    assert await run_delivery(job, harness.parts) is DeliveryEnd.HELD_ELSEWHERE
    assert (await harness.outcomes(), harness.parts.missing_credentials.served_elsewhere()) == ([], [OTHER])


async def test_events_that_are_settled_already_are_not_parked(redis: Redis, harness: Harness) -> None:
    job = await queue_other(redis, "a", "b")
    await redis.sadd(keys.settled_events(OTHER, job.id), job.argument["events"][0][0])
    assert await run_delivery(job, harness.parts) is DeliveryEnd.CLOSED
    assert await harness.outcomes() == [("parked", "no_credentials")]


@pytest.mark.parametrize(("portal_ids", "served"), [("", [PORTAL]), (str(PORTAL), [PORTAL]), (str(OTHER), [])])
async def test_token_serves_its_portal_unless_portal_ids_excludes_it(
    environ: dict[str, str], redis: Redis, hubspot: Simulator, portal_ids: str, served: list[int]
) -> None:
    settings = Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url, "PORTAL_IDS": portal_ids})
    crm = await CRM.open(settings, redis)
    await crm.check_token()
    assert list(crm.credentials.portals) == served
    await crm.close()


async def test_call_for_another_portal_is_never_sent(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> None:
    crm = await CRM.open(Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url}), redis)
    with pytest.raises(NoCredentials):
        await crm.credentials.client(OTHER)
    assert await crm.credentials.client(PORTAL)
    await crm.close()


async def test_handler_that_raises_it_in_a_portal_we_serve_makes_a_dead_letter(harness: Harness) -> None:
    harness.errors = [NoCredentials()]
    await harness.run((change("a", 1),))
    assert await harness.outcomes() == [("dead", "no_credentials")]
