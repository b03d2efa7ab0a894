"""Erase a portal in a real Valkey and both databases, then search all of them."""

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from chaos.store_dumps import dump_redis, dump_sql
from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.archiver import Archiver
from spokes.audit.direct_records import DirectRecords
from spokes.audit.incidents.incident import Incident
from spokes.audit.incidents.incident_store import IncidentStore
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.sql import schema
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.tables import INSTALLED_PORTALS
from spokes.audit.stream import append_now
from spokes.audit.verification.verify import verify
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.redis import keys
from spokes.core.redis.keys import IN_PROGRESS_KEY_PREFIX, JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import StoredSecrets
from spokes.portals.store import PortalState, PortalStore
from spokes.portals.tokens import Tokens
from spokes.privacy.portal_erasure import PortalErasures
from spokes.privacy.requests import ErasureRequest, Law, RequestState, add_request, load_requests
from spokes.queue.dead_letters import DeadLetter, DeadLetters, store_commands
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.queue.quarantine import NewContent, Quarantine
from tests.support.deployment import KEY
from tests.support.events import event, recorded

PORTAL, OTHER_PORTAL = 700100, 700101
CANARY, CANARY_ID, OTHER_ID = "canary@example.com", 318845120771, 318845999999
DAY_MS = 86_400_000


@pytest.fixture
def settings(environ: dict[str, str], database_url: str) -> Settings:
    return Settings.from_env({**environ, "DATABASE_URL": database_url, "UNINSTALLED_DAYS": "30"})


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return Vault.from_settings(settings)


@pytest.fixture
async def store(engine: AsyncEngine, vault: Vault) -> PortalStore:
    await schema.upgrade(engine)
    return PortalStore(engine, vault)


@pytest.fixture
def erasures(settings: Settings, redis: Redis, engine: AsyncEngine, store: PortalStore) -> PortalErasures:
    del store  # the tables exist
    return PortalErasures(settings, redis, engine)


async def install(store: PortalStore, portal_id: int) -> None:
    tokens = Tokens(SecretStr("access"), SecretStr("refresh"), clock.now_ms())
    await store.save_install(portal_id, tokens, ["oauth"], name=f"Company {portal_id}")


async def set_state(store: PortalStore, portal_id: int, state: PortalState, days_ago: float) -> None:
    await store.mark(portal_id, state, "disconnected")
    async with write_connection(store.engine) as connection:
        changed_at = clock.now_ms() - round(days_ago * DAY_MS)
        where = INSTALLED_PORTALS.c.portal_id == portal_id
        await connection.execute(update(INSTALLED_PORTALS).where(where).values(changed_at=changed_at))


async def fill(redis: Redis, engine: AsyncEngine, vault: Vault, portal_id: int, object_id: int, value: str) -> None:
    """Store data of one portal everywhere."""
    raw = event(objectId=object_id, portalId=portal_id, propertyName="email", propertyValue=value)
    entry, later = Entry(f"{object_id:020x}", 0, raw), clock.now_ms() + 3_600_000
    for number in (1, 2):
        delivery = Delivery(f"{portal_id}-1-{number}", portal_id, 1, (entry,))
        await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, later))
        await redis.zadd(JOB_QUEUE, {delivery.id: later})
    await redis.zadd(keys.parked_deliveries(portal_id), {f"{portal_id}-1-1": 1})
    await redis.zadd(keys.held_deliveries(portal_id, "all"), {f"{portal_id}-1-2": 1})
    await redis.sadd(keys.HELD_SETS, f"{portal_id}:all")  # type: ignore[misc]  # redis-py types one class for sync and async
    letter = DeadLetter(portal_id, f"{portal_id}-1-3", entry, "not_permitted", "contacts.greet", clock.now_ms())
    for command in store_commands(letter, ttl_s=3600):
        await redis.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    quarantine = Quarantine(redis, vault, ttl_s=3600)
    content = NewContent(portal_id, f"{object_id:x}", "merge_ids", value.encode())
    await quarantine.keep([content], delivery_id="", alert=Alert.ELEMENTS_QUARANTINED)
    await redis.hset(keys.newest_timestamps(portal_id, "contact", str(object_id)), "email", "1")  # type: ignore[misc]  # as above
    await redis.hset(keys.once_effects(portal_id, "contact", str(object_id)), "note", "77")  # type: ignore[misc]  # as above
    await StoredSecrets(redis, vault).put(portal_id, "pending_tokens", "1 {}")
    await PortalPauses(redis).operator_pause(portal_id, actor="ada", reason="", is_known=True)
    await AlertEpisodes(redis).set_state(Alert.NEEDS_REINSTALL, subject=portal_id, portal_id=portal_id, is_active=True)
    for action in (Action.EVENT, Action.CRM_WRITE):
        record = AuditRecord(
            action=action, portal_id=portal_id, object_type="contact", object_id=str(object_id),
            outcome=Outcome.PROCESSED if action is Action.EVENT else None,
        )  # fmt: skip
        await append_now(redis, record)
    await Archiver(redis, engine, KEY).drain()
    incident = Incident(title=f"Contact {object_id} exposed", aware_at=1, opened_by="ada", since=0)
    await IncidentStore(engine, DirectRecords(KEY, 10_000), "ada").open(incident)
    request = ErasureRequest(portal_id, "00" * 16, (str(object_id),), Law.GDPR, "ada")
    await add_request(engine, request)


async def test_nothing_of_an_uninstalled_portal_is_left_anywhere(
    redis: Redis, engine: AsyncEngine, vault: Vault, store: PortalStore, erasures: PortalErasures
) -> None:
    """No value, no object id and no key of it is left, in a full dump of Redis and of SQL; another portal is whole."""
    for portal_id, object_id, value in ((PORTAL, CANARY_ID, CANARY), (OTHER_PORTAL, OTHER_ID, "other@example.com")):
        await install(store, portal_id)
        await fill(redis, engine, vault, portal_id, object_id, value)
    await set_state(store, PORTAL, PortalState.UNINSTALLED, days_ago=31)
    assert await erasures.run() == 1
    await Archiver(redis, engine, KEY).drain()
    await redis.delete(keys.ALERT_OUTBOX)  # messages of alerts, which name the portal for a day
    in_redis, in_sql = await dump_redis(redis), await dump_sql(engine)
    assert [text for text in (str(CANARY_ID), CANARY, f"Company {PORTAL}") if text in in_redis + in_sql] == []
    assert str(PORTAL) not in in_redis
    assert await store.tokens(PORTAL) is None
    letters = [letter async for letter in DeadLetters(redis).list(OTHER_PORTAL)]
    assert (len(letters), str(OTHER_ID) in in_sql, await store.tokens(OTHER_PORTAL) is not None) == (1, True, True)
    assert await redis.zcard(JOB_QUEUE) == 2
    assert (await verify(engine, master_key=KEY)).is_intact
    assert [r.portal_id for r in await load_requests(engine, state=RequestState.OPEN)] == [OTHER_PORTAL]


async def test_erasure_is_recorded_with_its_counts(
    redis: Redis, engine: AsyncEngine, vault: Vault, store: PortalStore, erasures: PortalErasures
) -> None:
    await install(store, PORTAL)
    await fill(redis, engine, vault, PORTAL, CANARY_ID, CANARY)
    await set_state(store, PORTAL, PortalState.UNINSTALLED, days_ago=31)
    await erasures.run()
    [record] = [each for each in await recorded(redis) if each.action == Action.PORTAL_ERASED]
    counts = {name: record.detail[name] for name in ("events", "dead_letters", "quarantined", "requests")}
    assert (record.portal_id, counts) == (
        PORTAL, {"events": 2, "dead_letters": 1, "quarantined": 1, "requests": 1},
    )  # fmt: skip


async def test_each_waiting_event_of_an_erased_portal_ends_discarded(
    redis: Redis, engine: AsyncEngine, vault: Vault, store: PortalStore, erasures: PortalErasures
) -> None:
    await install(store, PORTAL)
    await fill(redis, engine, vault, PORTAL, CANARY_ID, CANARY)
    await set_state(store, PORTAL, PortalState.UNINSTALLED, days_ago=31)
    await erasures.run()
    await Archiver(redis, engine, KEY).drain()
    in_sql = await dump_sql(engine)
    assert in_sql.count("'discarded', 'uninstalled'") == 4  # two queued, one dead, one quarantined


@pytest.mark.parametrize(
    ("state", "days_ago"), [(PortalState.UNINSTALLED, 29), (PortalState.NEEDS_REINSTALL, 29), (PortalState.PAUSED, 99)]
)
async def test_portal_is_kept_until_its_days_are_over(
    store: PortalStore, erasures: PortalErasures, state: PortalState, days_ago: int
) -> None:
    await install(store, PORTAL)
    await set_state(store, PORTAL, state, days_ago=days_ago)
    assert await erasures.run() == 0
    portal = await store.get(PORTAL)
    assert portal is not None
    assert portal.name == f"Company {PORTAL}"


async def test_portal_that_is_installed_again_is_not_erased(
    redis: Redis, engine: AsyncEngine, vault: Vault, store: PortalStore, erasures: PortalErasures
) -> None:
    await install(store, PORTAL)
    await fill(redis, engine, vault, PORTAL, CANARY_ID, CANARY)
    await set_state(store, PORTAL, PortalState.UNINSTALLED, days_ago=31)
    await install(store, PORTAL)
    assert await erasures.run() == 0
    assert len([letter async for letter in DeadLetters(redis).list(PORTAL)]) == 1


async def test_portal_whose_tokens_were_revoked_is_erased_like_an_uninstalled_one(
    store: PortalStore, erasures: PortalErasures
) -> None:
    await install(store, PORTAL)
    await set_state(store, PORTAL, PortalState.NEEDS_REINSTALL, days_ago=31)
    assert await erasures.run() == 1
    portal = await store.get(PORTAL)
    assert portal is not None
    assert (portal.state, portal.reason) == (PortalState.UNINSTALLED, "erased")
    assert await erasures.run() == 0


async def test_portal_whose_delivery_a_worker_runs_is_erased_later(
    redis: Redis, engine: AsyncEngine, vault: Vault, store: PortalStore, erasures: PortalErasures
) -> None:
    await install(store, PORTAL)
    await fill(redis, engine, vault, PORTAL, CANARY_ID, CANARY)
    await set_state(store, PORTAL, PortalState.NEEDS_REINSTALL, days_ago=31)
    await redis.set(f"{IN_PROGRESS_KEY_PREFIX}{PORTAL}-1-1", "a worker")
    assert await erasures.run() == 0
    assert await redis.exists(f"{JOB_KEY_PREFIX}{PORTAL}-1-1")
    await redis.delete(f"{IN_PROGRESS_KEY_PREFIX}{PORTAL}-1-1")
    assert await erasures.run() == 1
