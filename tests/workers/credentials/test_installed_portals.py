"""Workers with the tokens of portals that installed the app: each event runs with its own portal's token."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event, RawEvent
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import fingerprinter, token_fingerprint
from spokes.core.vault import Vault
from spokes.crm.services import CRM
from spokes.intake.portal_events import PORTAL_INSTALLED, queue_portal_event
from spokes.portals.directory import PortalDirectory
from spokes.portals.store import PortalState, PortalStore
from spokes.portals.tokens import Tokens
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from tests.support.deployment import ROOT
from tests.support.events import event, recorded
from tests.support.hubspot.app_installs import install_app
from tests.workers.harness import KEYS, PORTAL
from workers.credentials.installed_portals import InstalledPortals
from workers.delivery.missing_credentials import MissingCredentials
from workers.worker import build_worker

INSTALLED, OTHER = 700100, 700200
SCOPES = frozenset({"oauth", "crm.objects.contacts.read", "crm.objects.contacts.write"})
RunWorker: TypeAlias = Callable[[int], Awaitable[list[tuple[int, str, str]]]]


@pytest.fixture
def app_environ(environ: dict[str, str], hubspot: Simulator) -> dict[str, str]:
    """The environment of a worker of an app that customers install."""
    return environ | {
        "HUBSPOT_CLIENT_ID": hubspot.config.oauth.client_id,
        "HUBSPOT_CLIENT_SECRET": hubspot.config.client_secret,
        "HUBSPOT_API_URL": hubspot.url,
        "SECRETS_KEY": "a-key-of-the-vault-that-is-long-enough",
        "RETRY_SCHEDULE_S": "0.05",
        "OUTAGE_RETRY_HOURS": "0",
    }


@pytest.fixture
async def store(app_environ: dict[str, str]) -> AsyncIterator[PortalStore]:
    settings = Settings.from_env(app_environ)
    engine = open_engine(settings.database_address)
    await schema.upgrade(engine)
    yield PortalStore(engine, Vault.from_settings(settings))
    await engine.dispose()


async def queue_change(redis: Redis, hubspot: Simulator, portal_id: int) -> str:
    """Queue an event of a contact; return the contact's id."""
    portal = hubspot.add_portal(portal_id)
    record = portal.crm.create(portal.crm.types.resolve("contacts"), {"phone": "(415) 555-2671"}, USER)
    await queue_event(redis, event(objectId=int(record.id), portalId=portal_id, occurredAt=record.created_at_ms))
    return record.id


async def queue_event(redis: Redis, raw: RawEvent) -> None:
    portal_id = int(raw["portalId"])
    delivery = Delivery(new_delivery_id(portal_id), portal_id, clock.now_ms(), (Entry(KEYS(Event(raw)), 0, raw),))
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, delivery.received_at))
    await redis.zadd(JOB_QUEUE, {delivery.id: delivery.received_at})


@pytest.fixture
def run_worker(app_environ: dict[str, str], redis: Redis, store: PortalStore) -> RunWorker:
    """Return a function that runs a worker until so many outcomes are recorded, and returns them with their portals."""
    del store  # the tables exist

    async def run(outcomes: int) -> list[tuple[int, str, str]]:
        worker = build_worker(Settings.from_env(app_environ), has_upkeep=False)
        running = asyncio.create_task(worker.async_run())
        try:
            async with asyncio.timeout(50):
                while True:
                    records = [record for record in await recorded(redis) if record.outcome]
                    if len(records) >= outcomes:
                        break
                    await asyncio.sleep(0.05)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await worker.close()
        return [(record.portal_id, str(record.outcome), record.reason) for record in records]

    return run


def portals_called(hubspot: Simulator) -> set[tuple[str, int | None]]:
    """Return the object ids that were read, each with the portal of the token."""
    calls = hubspot.requests.find(path="/crm/*")
    return {(object_id, call.portal_id) for call in calls for object_id in call.object_ids}


async def test_each_event_runs_with_the_token_of_its_portal(
    redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    await install_app(store, hubspot, INSTALLED, SCOPES)
    await install_app(store, hubspot, OTHER, SCOPES, expires_in_s=-60)
    ids = {portal_id: await queue_change(redis, hubspot, portal_id) for portal_id in (PORTAL, INSTALLED, OTHER)}
    assert {(portal, outcome) for portal, outcome, _ in await run_worker(3)} == {
        (portal_id, "processed") for portal_id in ids
    }
    assert portals_called(hubspot) == {(object_id, portal_id) for portal_id, object_id in ids.items()}


async def test_audit_names_the_token_of_each_portal(
    app_environ: dict[str, str], redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    await install_app(store, hubspot, INSTALLED, SCOPES)
    for portal_id in (PORTAL, INSTALLED):
        await queue_change(redis, hubspot, portal_id)
    await run_worker(2)
    settings = Settings.from_env(app_environ)
    tokens = await store.tokens(INSTALLED)
    assert tokens is not None
    own = fingerprinter(settings)(tokens.access_token.get_secret_value())
    records = [record for record in await recorded(redis) if "token_fingerprint" in record.detail]
    assert {(record.action.value, record.portal_id, record.detail["token_fingerprint"]) for record in records} == {
        (action, portal_id, fingerprint)
        for action in ("event", "crm.write")
        for portal_id, fingerprint in ((PORTAL, token_fingerprint(settings)), (INSTALLED, own))
    }


async def test_installed_portal_that_portal_ids_excludes_is_not_served(
    app_environ: dict[str, str], redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    app_environ["PORTAL_IDS"] = f"{PORTAL},{OTHER}"
    for portal_id in (INSTALLED, OTHER):
        await install_app(store, hubspot, portal_id, SCOPES)
        await queue_change(redis, hubspot, portal_id)
    assert set(await run_worker(2)) == {(INSTALLED, "parked", "no_credentials"), (OTHER, "processed", "")}


async def test_worker_without_a_static_token_serves_installed_portals(
    app_environ: dict[str, str], redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    app_environ["HUBSPOT_ACCESS_TOKEN"] = ""
    await install_app(store, hubspot, INSTALLED, SCOPES)
    await queue_change(redis, hubspot, INSTALLED)
    assert await run_worker(1) == [(INSTALLED, "processed", "")]


async def test_events_before_the_install_are_parked_and_run_after_it(
    redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    await queue_change(redis, hubspot, INSTALLED)
    assert await run_worker(1) == [(INSTALLED, "parked", "no_credentials")]
    await install_app(store, hubspot, INSTALLED, SCOPES)
    await release(redis, store)
    assert (await run_worker(2))[1:] == [(INSTALLED, "processed", "")]


async def test_install_that_is_queued_before_its_tokens_are_stored_is_no_alert(
    app_environ: dict[str, str], redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    app_environ["HANDLERS"] = "tests.support.handlers.portal_events"
    settings = Settings.from_env(app_environ)
    assert await queue_portal_event(PORTAL_INSTALLED, INSTALLED, occurred_at=1, settings=settings, redis=redis)
    assert await run_worker(1) == [(INSTALLED, "parked", "no_credentials")]
    assert await AlertEpisodes(redis).active("") == []
    await install_app(store, hubspot, INSTALLED, SCOPES)
    await release(redis, store)
    assert (await run_worker(2))[1:] == [(INSTALLED, "processed", "")]


async def test_events_behind_one_that_found_the_app_removed_run_after_the_next_install(
    redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    await install_app(store, hubspot, INSTALLED, SCOPES)
    contact_id = await queue_change(redis, hubspot, INSTALLED)
    later = event(objectId=int(contact_id), portalId=INSTALLED, occurredAt=clock.now_ms(), propertyValue="1")
    await queue_event(redis, later)
    hubspot.installs.uninstall(INSTALLED)
    assert set(await run_worker(2)) == {
        (INSTALLED, "parked", "no_credentials"),
        (INSTALLED, "parked", "behind_another"),
    }
    assert await redis.zcard(keys.parked_deliveries(INSTALLED)) == 2
    await install_app(store, hubspot, INSTALLED, SCOPES)
    await release(redis, store)
    assert await redis.zcount(JOB_QUEUE, "-inf", clock.now_ms()) == 2
    assert {(portal, outcome) for portal, outcome, _ in (await run_worker(4))[2:]} == {(INSTALLED, "processed")}


async def test_events_of_an_uninstalled_portal_are_discarded(
    redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    await install_app(store, hubspot, INSTALLED, SCOPES)
    await store.mark(INSTALLED, PortalState.UNINSTALLED, "disconnected")
    await queue_change(redis, hubspot, INSTALLED)
    assert await run_worker(1) == [(INSTALLED, "discarded", "uninstalled")]
    assert portals_called(hubspot) == set()
    assert not await redis.hkeys(keys.ALERTS_ACTIVE)  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_parked_events_of_a_portal_that_is_uninstalled_are_discarded(
    redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    await install_app(store, hubspot, INSTALLED, SCOPES)
    await store.mark(INSTALLED, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    await queue_change(redis, hubspot, INSTALLED)
    assert await run_worker(1) == [(INSTALLED, "parked", "no_credentials")]
    assert await AlertEpisodes(redis).active("") == [f"needs_reinstall:{INSTALLED}"]
    await store.mark(INSTALLED, PortalState.UNINSTALLED, "disconnected")
    await release(redis, store)
    assert (await run_worker(2))[1:] == [(INSTALLED, "discarded", "uninstalled")]
    assert await AlertEpisodes(redis).active("") == []


async def test_pause_of_a_portal_ends_when_it_is_uninstalled(
    redis: Redis, hubspot: Simulator, store: PortalStore
) -> None:
    await install_app(store, hubspot, INSTALLED, SCOPES)
    await PortalPauses(redis).operator_pause(INSTALLED, actor="ada", reason="", is_known=True)
    await queue_change(redis, hubspot, INSTALLED)
    [delivery_id] = await redis.zrange(JOB_QUEUE, 0, -1)
    await redis.zadd(JOB_QUEUE, {delivery_id: clock.now_ms() + 3_600_000})
    await redis.zadd(keys.held_deliveries(INSTALLED, "all"), {delivery_id: 1})
    await redis.sadd(keys.HELD_SETS, f"{INSTALLED}:all")  # type: ignore[misc]  # redis-py types one class for sync and async
    await store.mark(INSTALLED, PortalState.UNINSTALLED, "disconnected")
    await release(redis, store)
    assert await PortalPauses(redis).list() == {}
    assert await redis.zscore(JOB_QUEUE, delivery_id) <= clock.now_ms()


async def test_revocation_parks_the_events_of_its_portal_alone(
    redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    for portal_id in (INSTALLED, OTHER):
        await install_app(store, hubspot, portal_id, SCOPES)
        await queue_change(redis, hubspot, portal_id)
    hubspot.installs.uninstall(INSTALLED)
    assert set(await run_worker(2)) == {(INSTALLED, "parked", "no_credentials"), (OTHER, "processed", "")}
    portal = await store.get(INSTALLED)
    assert portal is not None
    assert portal.state is PortalState.NEEDS_REINSTALL


async def test_token_that_hubspot_has_expired_early_is_renewed_during_the_call(
    redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    await install_app(store, hubspot, INSTALLED, SCOPES)
    hubspot.installs.expire_access_tokens()
    await queue_change(redis, hubspot, INSTALLED)
    assert await run_worker(1) == [(INSTALLED, "processed", "")]
    assert hubspot.installs.refreshes == {INSTALLED: 1}


async def test_pause_after_a_401_ends_with_a_newer_token(
    app_environ: dict[str, str], redis: Redis, hubspot: Simulator, store: PortalStore
) -> None:
    await install_app(store, hubspot, INSTALLED, SCOPES)
    settings = Settings.from_env(app_environ)
    installed = InstalledPortals.open(settings, redis)
    assert installed is not None
    crm = await CRM.open(settings, redis, installed.credentials)
    await installed.load()
    assert await crm.accepts_credentials(INSTALLED)
    hubspot.installs.expire_access_tokens()
    assert await crm.accepts_credentials(INSTALLED)
    # Another worker refreshes, and HubSpot ends the token that it got, too.
    issued = hubspot.installs.install(INSTALLED, SCOPES)
    newer = Tokens(SecretStr(issued.access_token), SecretStr(issued.refresh_token), clock.now_ms() + 1_800_000)
    assert await store.replace_tokens(INSTALLED, 2, newer)
    hubspot.installs.expire_access_tokens()
    crm.credentials._installed._forced_at.clear()  # type: ignore[attr-defined]  # a minute later
    assert await crm.accepts_credentials(INSTALLED)
    await crm.close()
    await installed.close()


async def test_worker_that_has_not_read_of_a_revocation_ends_no_alert_of_it(
    redis: Redis, hubspot: Simulator, store: PortalStore, run_worker: RunWorker
) -> None:
    await install_app(store, hubspot, INSTALLED, SCOPES)
    earlier = PortalDirectory(store)
    await earlier.refresh()
    await queue_change(redis, hubspot, INSTALLED)
    hubspot.installs.uninstall(INSTALLED)
    assert await run_worker(1) == [(INSTALLED, "parked", "no_credentials")]
    parked = await redis.zrange(JOB_QUEUE, 0, -1, withscores=True)
    await announce(redis, earlier)
    assert await AlertEpisodes(redis).active("") == [f"needs_reinstall:{INSTALLED}"]
    assert await redis.zrange(JOB_QUEUE, 0, -1, withscores=True) == parked


async def release(redis: Redis, store: PortalStore) -> None:
    """Announce the credentials of installed portals, as a worker does every few seconds."""
    directory = PortalDirectory(store)
    await directory.refresh()
    await announce(redis, directory)


async def announce(redis: Redis, directory: PortalDirectory) -> None:
    """Announce the credentials of the portals that a worker takes for installed."""

    class Installed:
        portals = directory.installed

    await MissingCredentials(redis, Installed(), directory=directory).announce()  # type: ignore[arg-type]  # calls nothing


@pytest.mark.slow
async def test_worker_process_runs_parked_events_by_itself_after_the_install(
    app_environ: dict[str, str], redis: Redis, hubspot: Simulator, store: PortalStore
) -> None:
    environ = {**os.environ, **app_environ, "HUBSPOT_ACCESS_TOKEN": ""}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "workers", cwd=ROOT, env=environ)

    async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(120):
            while True:
                if await condition():
                    return
                await asyncio.sleep(0.1)

    async def is_parked() -> bool:
        return bool(await redis.exists(keys.parked_deliveries(INSTALLED)))

    async def is_written() -> bool:
        return any(call.portal_id == INSTALLED and call.writes for call in hubspot.requests)

    try:
        await queue_change(redis, hubspot, INSTALLED)
        await wait_until(is_parked)
        await install_app(store, hubspot, INSTALLED, SCOPES)
        await wait_until(is_written)
    finally:
        process.terminate()
        await process.wait()
    assert process.returncode == 0
