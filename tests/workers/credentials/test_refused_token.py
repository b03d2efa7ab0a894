"""workers.credentials.refused_token: a worker whose token HubSpot refuses leaves its portal to workers with another."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.delivery import Delivery, decode
from spokes.core.errors import NotAuthorized
from spokes.core.events import Event
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import token_fingerprint
from spokes.crm.services import CRM
from spokes.queue.token_reports import TokenReports
from spokes.simulator.app import Simulator
from spokes.simulator.portal import TokenState
from spokes.tools import Tools
from tests.support.events import recorded
from tests.workers.harness import PORTAL, Harness, change
from workers.credentials.refused_token import RefusedToken, check_delay_s
from workers.delivery.run_delivery import run_delivery
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd

OTHER_WORKER = "host:2:bb"


@pytest.fixture
def handler_timeout_s() -> float:
    return 0.4


@pytest.fixture
def reports(redis: Redis) -> TokenReports:
    return TokenReports(redis)


@pytest.fixture
async def served(reports: TokenReports) -> None:
    """Another worker serves the portal with another token."""
    await reports.put(PORTAL, OTHER_WORKER, "another", is_refused=False)


@pytest.fixture
async def second(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> AsyncIterator[Harness]:
    """Another worker with the same token."""
    settings = Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url})
    crm = await CRM.open(settings, redis)
    await crm.check_token()
    harness = Harness(settings, redis, crm)
    yield harness
    await harness.parts.close()
    await crm.close()


def revoke(hubspot: Simulator, state: TokenState = TokenState.REVOKED) -> None:
    (portal,) = hubspot.portals.values()
    portal.token_state = state


async def queued(redis: Redis) -> list[tuple[Delivery, float]]:
    """Return the queued deliveries with the epoch ms at which each is due."""
    jobs = await redis.zrange(JOB_QUEUE, 0, -1, withscores=True)
    return [
        (Delivery.from_job(decode(await redis.get(JOB_KEY_PREFIX + name.decode()))["a"][0]), due) for name, due in jobs
    ]


async def alerts(redis: Redis) -> list[str]:
    return await AlertEpisodes(redis).active("")


@pytest.mark.usefixtures("served")
async def test_event_whose_call_is_refused_is_due_at_once_without_a_spent_try(
    redis: Redis, harness: Harness, hubspot: Simulator
) -> None:
    harness.register_writer()
    revoke(hubspot)
    await harness.run((change("a", 1, "written"),))
    ((delivery, due_ms),) = await queued(redis)
    assert [entry.attempt for entry in delivery.entries] == [0]
    assert due_ms <= clock.now_ms()
    (parked,) = [record for record in await recorded(redis) if record.outcome]
    assert (parked.reason, (parked.detail or {})["delay_s"]) == ("not_authorized", 0.0)
    assert harness.parts.missing_credentials.served_elsewhere() == [PORTAL]


@pytest.mark.usefixtures("served")
async def test_portal_is_not_paused_and_one_alert_names_the_fingerprint(redis: Redis, harness: Harness) -> None:
    harness.errors = [NotAuthorized(), NotAuthorized()]
    await harness.run((change("a", 1),), (change("b", 1, object_id=2),))
    await harness.parts.refused_token.report()
    assert not await harness.pauses.list()
    fingerprint = token_fingerprint(harness.parts.settings)
    began = [record for record in await recorded(redis) if record.action == "alert.began"]
    assert [record.reason for record in began] == [f"worker_token_refused:{PORTAL}:{fingerprint}"]
    assert await alerts(redis) == [f"worker_token_refused:{PORTAL}:{fingerprint}"]


@pytest.mark.usefixtures("served")
async def test_claimed_event_runs_no_handler_once_the_token_is_refused(harness: Harness) -> None:
    @harness.router.register("contact.propertyChange", property="first")
    async def stop(event: Event, tools: Tools) -> None:
        await harness.parts.refused_token.stop(PORTAL)

    assert await harness.run((change("a", 1, "first"), change("b", 2))) == [DeliveryEnd.CLOSED]
    assert sorted(await harness.outcomes()) == [("parked", "not_authorized"), ("processed", "")]
    assert harness.calls == []


@pytest.mark.usefixtures("served")
async def test_claimed_delivery_of_a_refused_token_is_released(redis: Redis, harness: Harness) -> None:
    assert await harness.parts.refused_token.stop(PORTAL)
    delivery = await harness.queue(change("a", 1))
    assert await run_delivery(ClaimedJob(delivery.id, delivery.to_job(), 1), harness.parts) is (
        DeliveryEnd.HELD_ELSEWHERE
    )
    assert not [record for record in await recorded(redis) if record.outcome]


@pytest.mark.usefixtures("served")
async def test_handler_in_flight_finishes_while_the_token_is_refused(harness: Harness) -> None:
    harness.errors = [NotAuthorized()]
    ends = await harness.run((change("a", 1, "slow", object_id=8), change("b", 1, object_id=9)))
    assert ends == [DeliveryEnd.CLOSED]
    assert ("retried", "handler_timeout") in await harness.outcomes()


async def test_portal_is_paused_if_no_other_worker_serves_it(harness: Harness) -> None:
    harness.errors = [NotAuthorized()]
    await harness.run((change("a", 1),))
    assert {portal: pause.reason for portal, pause in (await harness.pauses.list()).items()} == {
        PORTAL: "not_authorized"
    }
    assert not harness.parts.refused_token.is_refused


@pytest.mark.parametrize("others", [("refused", True), ("same token", False)])
async def test_portal_is_paused_if_no_other_token_is_accepted(
    harness: Harness, reports: TokenReports, others: tuple[str, bool]
) -> None:
    name, is_refused = others
    token = "another" if name == "refused" else token_fingerprint(harness.parts.settings)
    await reports.put(PORTAL, OTHER_WORKER, token, is_refused=is_refused)
    harness.errors = [NotAuthorized()]
    await harness.run((change("a", 1),))
    assert list(await harness.pauses.list()) == [PORTAL]


@pytest.mark.usefixtures("served")
async def test_portal_is_paused_when_the_last_worker_with_an_accepted_token_ends(
    redis: Redis, harness: Harness, reports: TokenReports
) -> None:
    await harness.parts.refused_token.stop(PORTAL)
    await reports.remove(PORTAL, OTHER_WORKER)
    await harness.parts.refused_token.report()
    assert [pause.reason for pause in (await harness.pauses.list()).values()] == ["not_authorized"]
    assert await alerts(redis) == [f"portal_paused:{PORTAL}"]


@pytest.mark.usefixtures("served")
async def test_worker_continues_once_its_token_is_accepted(redis: Redis, harness: Harness, hubspot: Simulator) -> None:
    refused_token = harness.parts.refused_token
    revoke(hubspot)
    await refused_token.stop(PORTAL)
    refused_token._next_check = 0.0
    await refused_token.check()
    assert (refused_token.is_refused, harness.crm.credentials.portals) == (True, ())
    revoke(hubspot, TokenState.VALID)
    refused_token._next_check = 0.0
    await refused_token.check()
    assert (refused_token.is_refused, harness.crm.credentials.portals) == (False, (PORTAL,))
    assert harness.parts.missing_credentials.served_elsewhere() == []
    assert await alerts(redis) == []


@pytest.mark.usefixtures("served")
async def test_token_is_not_checked_before_it_is_due(harness: Harness, hubspot: Simulator) -> None:
    await harness.parts.refused_token.stop(PORTAL)
    calls = hubspot.requests.total
    await harness.parts.refused_token.check()
    assert (hubspot.requests.total, harness.parts.refused_token.is_refused) == (calls, True)


def test_token_is_checked_at_growing_intervals() -> None:
    assert [check_delay_s(failures) for failures in range(1, 7)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


@pytest.mark.usefixtures("served")
async def test_token_that_is_refused_again_soon_is_checked_more_rarely(harness: Harness) -> None:
    refused_token = harness.parts.refused_token
    for _ in range(3):
        await refused_token.stop(PORTAL)
        refused_token._next_check = 0.0
        await refused_token.check()
        assert not refused_token.is_refused
    assert refused_token._failures == 3


@pytest.mark.usefixtures("served")
async def test_alert_ends_when_the_worker_is_gone(redis: Redis, harness: Harness, second: Harness) -> None:
    refused = RefusedToken(
        redis, second.crm.credentials, second.pauses, second.crm.check_token, fingerprint="old", worker="gone"
    )
    await refused.stop(PORTAL)
    await harness.parts.refused_token.report()
    assert await alerts(redis) == [f"worker_token_refused:{PORTAL}:old"]
    await refused.close()
    await harness.parts.refused_token.report()
    assert await alerts(redis) == []


async def test_call_that_is_refused_although_the_token_is_accepted_pauses_the_portal_once(
    redis: Redis, harness: Harness
) -> None:
    harness.errors = [NotAuthorized()]
    await harness.run((change("a", 1),))
    assert list(await harness.pauses.list()) == [PORTAL]
    await harness.pauses.resume(PORTAL)
    harness.errors = [NotAuthorized(), NotAuthorized()]
    await harness.run((change("a", 1, object_id=2),), (change("b", 1, object_id=3),))
    assert await harness.pauses.list() == {}
    assert (await harness.outcomes())[1:] == [("retried", "not_authorized")] * 2
    assert sorted(entry.free_runs for delivery, _ in await queued(redis) for entry in delivery.entries) == [1, 1, 1]


async def test_retries_of_an_event_whose_call_is_always_refused_are_counted_after_some(
    redis: Redis, harness: Harness
) -> None:
    harness.pauses.note_refusal(PORTAL)
    harness.errors = [NotAuthorized() for _ in range(4)]
    await harness.run((change("a", 1),))
    for _ in range(3):
        ((delivery, _),) = [pair for pair in await queued(redis) if pair[0].entries[0].free_runs]
        await run_delivery(ClaimedJob(delivery.id, delivery.to_job(), 1), harness.parts)
    assert await harness.outcomes() == [("retried", "not_authorized")] * 4
    ((delivery, _),) = [pair for pair in await queued(redis) if pair[0].entries[0].attempt]
    assert (delivery.entries[0].attempt, delivery.entries[0].free_runs) == (1, 3)
    assert await harness.pauses.list() == {}


async def test_token_that_is_refused_soon_after_a_refused_call_pauses_the_portal(
    hubspot: Simulator, harness: Harness
) -> None:
    harness.pauses.note_refusal(PORTAL)
    revoke(hubspot)
    harness.errors = [NotAuthorized()]
    await harness.run((change("a", 1),))
    assert list(await harness.pauses.list()) == [PORTAL]
