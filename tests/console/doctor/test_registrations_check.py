"""`doctor` lists the registrations that no event has matched for days, after a worker has run."""

import json

import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE, REGISTRATIONS
from spokes.core.settings import Settings
from spokes.routing import load_router
from spokes.simulator.app import Simulator
from tests.support.command_line import spokes
from tests.support.deployment import PUBLIC_URL
from tests.support.events import event
from workers.worker import build_worker

DAY_MS = 86_400_000
OTHERS = load_router("handlers").registrations - {"contact.creation"}


@pytest.fixture
async def past_worker(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> None:
    """A worker has processed a creation of a contact and ended."""
    environ["HUBSPOT_API_URL"] = hubspot.url
    raw = event()
    delivery = Delivery(new_delivery_id(50112233), 50112233, clock.now_ms(), (Entry("aa", 0, raw),))
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, delivery.received_at))
    await redis.zadd(JOB_QUEUE, {delivery.id: delivery.received_at})
    router = load_router("handlers")  # another test of this process may have matched events with it
    router._matched.clear()
    router._cached_match.cache_clear()
    worker = build_worker(Settings.from_env(environ), burst=True)
    worker._handle_signals = False
    await worker.async_run()
    await worker.close()


async def age_registrations(redis: Redis, days: int) -> None:
    for field in await redis.hkeys(REGISTRATIONS):  # type: ignore[misc]
        await redis.hincrby(REGISTRATIONS, field, -days * DAY_MS)  # type: ignore[misc]


def listed(environ: dict[str, str], *options: str) -> list[dict[str, object]]:
    """Return doctor's findings about registrations; HubSpot is not asked."""
    done = spokes({**environ, "HUBSPOT_API_URL": "http://127.0.0.1:1"}, "doctor", "--json", *options)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    return [finding for finding in findings if finding["topic"] == "registrations"]


async def test_registration_without_event_is_listed_after_a_week_with_what_to_check(
    environ: dict[str, str], redis: Redis, past_worker: None
) -> None:
    await age_registrations(redis, 8)
    [finding] = listed(environ)
    assert finding["level"] == "info"
    assert finding["figures"] == {"registrations": dict.fromkeys(sorted(OTHERS), 8)}
    sentence = str(finding["sentence"])
    assert all(f"{name} (8 days)" in sentence for name in OTHERS)
    assert all(part in sentence for part in ("webhook subscription", f"{PUBLIC_URL}/webhooks/hubspot"))
    assert listed(environ, "--quiet") == []


async def test_young_registrations_are_not_listed(environ: dict[str, str], redis: Redis, past_worker: None) -> None:
    await age_registrations(redis, 6)
    assert listed(environ) == []


async def test_registrations_of_other_handlers_are_not_listed(
    environ: dict[str, str], redis: Redis, past_worker: None
) -> None:
    await age_registrations(redis, 8)
    assert listed({**environ, "HANDLERS": "tests.console.doctor.creation_handlers"}) == []
