"""Every breakage is named by `spokes doctor` in a sentence that says what to do, with the right exit code."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import delete, text, update

from spokes.audit import retention
from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.core import clock
from spokes.core.delivery import Entry
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert
from spokes.core.vault import Vault
from spokes.queue.dead_letters import DeadLetter
from spokes.queue.pauses.portal_pauses import OPERATOR, PortalPauses
from spokes.queue.quarantine import Quarantine
from spokes.queue.unreadable_jobs import quarantine_job
from spokes.simulator.portal import TokenState
from tests.console.doctor.breakages import (
    CLOSED,
    FAULT,
    PORTAL,
    REFUSED,
    WARNING,
    WEBHOOK_SECRET,
    Breakage,
    Deployment,
    assert_is_named,
    doctor,
    response,
    running_deployment,
    sentences,
    settings,
    statement,
    wrong_type,
)
from tests.support.deployment import KEY
from tests.support.events import event, store_dead_letters
from tests.support.redis_server import LOADABLE, busy_script, fill_memory, loading, own_server
from workers.upkeep.anomaly_watch import watch_secrets

DAY_MS = 86_400_000


def webhook(path: str) -> Breakage:
    return settings(ALERT_WEBHOOK_SECRET=WEBHOOK_SECRET, ALERT_WEBHOOK_URL=f"http://{CLOSED}/{path}")


def alert(name: Alert, **fields: object) -> Breakage:
    async def activate(deployment: Deployment) -> None:
        await deployment.activate(name, **fields)

    return activate


def clock_ahead(seconds: int) -> Breakage:
    async def change(deployment: Deployment) -> None:
        deployment.clock_ahead_s = seconds

    return change


async def deleted_webhook(deployment: Deployment) -> None:
    deployment.webhook_status = 410
    url = f"{deployment.environ['PUBLIC_URL']}/hook"
    deployment.environ |= {"ALERT_WEBHOOK_SECRET": WEBHOOK_SECRET, "ALERT_WEBHOOK_URL": url}


async def missing_scope(deployment: Deployment) -> None:
    portal = deployment.sim.portal
    scopes = frozenset(portal.config.scopes or ()) - {"crm.objects.contacts.write"}
    portal.config = replace(portal.config, scopes=scopes)


async def scope_without_need(deployment: Deployment) -> None:
    portal = deployment.sim.portal
    portal.config = replace(portal.config, scopes=frozenset({*(portal.config.scopes or ()), "automation"}))


def token(state: TokenState) -> Breakage:
    async def change(deployment: Deployment) -> None:
        deployment.sim.portal.token_state = state

    return change


async def no_worker(deployment: Deployment) -> None:
    await deployment.redis.zrem(keys.LIVE_PROCESSES, "worker:b")


async def no_process(deployment: Deployment) -> None:
    await deployment.redis.delete(keys.LIVE_PROCESSES)


async def paused(deployment: Deployment) -> None:
    await PortalPauses(deployment.redis).pause(PORTAL, OPERATOR)


async def late_queue(deployment: Deployment) -> None:
    await deployment.redis.zadd(keys.JOB_QUEUE, {"7-1": clock.now_ms() - 600_000})


def dead_letters(age_days: int) -> Breakage:
    async def store(deployment: Deployment) -> None:
        died_at = clock.now_ms() - age_days * DAY_MS
        await store_dead_letters(
            deployment.redis,
            DeadLetter(PORTAL, "7-1", Entry("aa", 1, event()), "permanent_error", "contacts.x", died_at),
        )

    return store


async def parked(deployment: Deployment) -> None:
    await deployment.redis.zadd(keys.parked_deliveries(7), {"7-1-a": 1})
    await deployment.activate(Alert.NO_CREDENTIALS, subject=7, portal_id=7)


async def unreadable(deployment: Deployment) -> None:
    quarantine = Quarantine.from_settings(deployment.redis, deployment.settings)
    await quarantine_job(deployment.redis, quarantine, "7-1", "pickle")


async def sealed_with_another_key(deployment: Deployment) -> None:
    await quarantine_job(deployment.redis, Quarantine(deployment.redis, Vault(["key"]), ttl_s=60), "7-1", "pickle")


async def foreign_job(deployment: Deployment) -> None:
    await deployment.redis.set("arq:job:foreign", b"\x80pickle")
    await deployment.redis.zadd(keys.DEFAULT_QUEUE, {"foreign": 1})


async def unsealed_secret(deployment: Deployment) -> None:
    await deployment.redis.hset(f"{keys.SEALED_PREFIX}{PORTAL}", "token", "in clear")  # type: ignore[misc]


async def old_secret(deployment: Deployment) -> None:
    await watch_secrets(deployment.settings, deployment.redis, AlertEpisodes(deployment.redis))
    for fingerprint in await deployment.redis.hkeys(keys.SECRETS_FIRST_SEEN):  # type: ignore[misc]
        await deployment.redis.hincrby(keys.SECRETS_FIRST_SEEN, fingerprint, -400 * DAY_MS)  # type: ignore[misc]


async def deleted_head(deployment: Deployment) -> None:
    await deployment.archive()
    await deployment.sql(delete(HEAD))


async def deleted_records(deployment: Deployment) -> None:
    await deployment.archive()
    await deployment.sql(delete(RECORDS))


async def changed_record(deployment: Deployment) -> None:
    await deployment.archive()
    await deployment.sql(update(RECORDS).where(RECORDS.c.seq == 3).values(handler="another"))


async def shortened_chain(deployment: Deployment) -> None:
    """Delete the newest record, and make the head and the checkpoints agree: only Redis knows of it."""
    await deployment.archive()
    await deployment.sql(delete(RECORDS).where(RECORDS.c.seq == 3))
    await deployment.sql(text("UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_records WHERE seq = 2)"))
    await deployment.sql(text("DELETE FROM audit_checkpoints WHERE seq > 2"))


async def other_audit_key(deployment: Deployment) -> None:
    await deployment.archive()
    await deployment.redis.delete(keys.DEPLOYMENT)
    deployment.environ["AUDIT_KEY"] = f"another-{KEY}"


async def weak_audit_key(deployment: Deployment) -> None:
    await deployment.redis.delete(keys.DEPLOYMENT)
    deployment.environ["AUDIT_KEY"] = "short"


async def no_audit_key(deployment: Deployment) -> None:
    await deployment.redis.delete(keys.DEPLOYMENT)
    deployment.environ["AUDIT_KEY"] = ""


async def another_database(deployment: Deployment) -> None:
    await deployment.archive()
    deployment.environ["DATABASE_URL"] += "-of-nobody"


async def quarantined(deployment: Deployment) -> None:
    await deployment.redis.sadd(keys.QUARANTINE_PORTALS, PORTAL)  # type: ignore[misc]
    await deployment.redis.zadd(keys.quarantine_index(PORTAL), {"aa": clock.now_ms()})


async def newer_version(deployment: Deployment) -> None:
    await deployment.redis.hset(keys.DEPLOYMENT, "oldest_beside", "99")  # type: ignore[misc]


BREAKAGES: dict[str, tuple[Breakage, int, str]] = {
    # settings
    "REDIS_URL without a scheme": (settings(REDIS_URL="nonsense"), REFUSED, "REDIS_URL"),
    "DATABASE_URL of another database": (settings(DATABASE_URL="mysql://h/x"), REFUSED, "DATABASE_URL"),
    "SENTRY_DSN that is none": (settings(SENTRY_DSN="none"), REFUSED, "SENTRY_DSN"),
    "a number that is none": (settings(MAX_BACKLOG="many"), REFUSED, "MAX_BACKLOG"),
    "weak SECRETS_KEY": (settings(SECRETS_KEY="x"), REFUSED, "SECRETS_KEY"),
    "handlers that do not exist": (settings(HANDLERS="no.such.package"), REFUSED, "HANDLERS"),
    "no HUBSPOT_CLIENT_SECRET": (settings(HUBSPOT_CLIENT_SECRET=""), FAULT, "HUBSPOT_CLIENT_SECRET is not set"),
    "no HUBSPOT_ACCESS_TOKEN": (settings(HUBSPOT_ACCESS_TOKEN=""), FAULT, "HUBSPOT_ACCESS_TOKEN is not set"),
    "no PUBLIC_URL": (settings(PUBLIC_URL=""), FAULT, "PUBLIC_URL is not set"),
    "PUBLIC_URL over http": (settings(PUBLIC_URL="http://hooks.invalid"), FAULT, "HubSpot calls https only"),
    "PUBLIC_URL of nobody": (settings(PUBLIC_URL=f"http://{CLOSED}"), WARNING, "cannot be reached from this machine"),
    "no TRUSTED_PROXIES": (settings(PUBLIC_URL=f"https://{CLOSED}"), WARNING, "TRUSTED_PROXIES is 0"),
    "lost AUDIT_KEY": (settings(AUDIT_KEY=""), FAULT, "AUDIT_KEY is not set, and the Redis database belongs to a"),
    "no AUDIT_KEY": (no_audit_key, WARNING, "AUDIT_KEY is not set"),
    "weak AUDIT_KEY": (weak_audit_key, WARNING, "AUDIT_KEY is short enough to guess"),
    "dropped URL parameters": (
        settings(DATABASE_URL=f"postgres://{CLOSED}/x?pool_timeout=9"),
        WARNING,
        "without effect here: pool_timeout",
    ),
    # receiver
    "receiver with another secret": (response(401), FAULT, "explain-signature"),
    "receiver behind an address list": (response(403), FAULT, "ALLOWED_ADDRESSES"),
    "receiver at another path": (response(404), FAULT, "Check PUBLIC_URL"),
    "receiver without Redis": (response(503), FAULT, "Check its REDIS_URL"),
    # Redis
    "Redis away": (settings(REDIS_URL=f"redis://{CLOSED}"), FAULT, "Redis does not answer. Check REDIS_URL"),
    "queue of another type": (wrong_type(keys.JOB_QUEUE), FAULT, keys.JOB_QUEUE),
    "audit stream of another type": (wrong_type(keys.AUDIT_STREAM), FAULT, keys.AUDIT_STREAM),
    "pauses of another type": (wrong_type(keys.PAUSED_PORTALS), FAULT, keys.PAUSED_PORTALS),
    "alerts of another type": (wrong_type(keys.ALERTS_ACTIVE), FAULT, keys.ALERTS_ACTIVE),
    "dead letters of another type": (wrong_type(keys.PORTALS), FAULT, keys.PORTALS),
    "another deployment": (settings(AUDIT_KEY=f"another-{KEY}"), FAULT, "belongs to another deployment"),
    "newer version": (newer_version, FAULT, "Deploy the newer version"),
    "blocked worker": (alert(Alert.WORKER_BLOCKED), WARNING, "worker_blocked is active"),
    "another arq application": (foreign_job, WARNING, "another application in arq's default queue"),
    "quarantined elements": (quarantined, WARNING, "spokes dead list --quarantined"),
    "quarantine of another key": (sealed_with_another_key, FAULT, "their key is missing from SECRETS_KEY"),
    "unreadable jobs": (unreadable, WARNING, "queued deliveries that could not be read: 1"),
    # audit store
    "audit store away": (settings(DATABASE_URL=f"postgres://{CLOSED}/x"), WARNING, "Audit records stay in Redis"),
    "another, empty audit store": (another_database, FAULT, "DATABASE_URL names another database"),
    "older audit store": (statement("UPDATE spokes_alembic_version SET version_num = '0001'"), WARNING, "older than"),
    "another AUDIT_KEY": (other_audit_key, FAULT, "AUDIT_KEY is wrong"),
    "no head of the chain": (deleted_head, FAULT, "part of the audit was deleted"),
    "no records of the chain": (deleted_records, FAULT, "part of the audit was deleted"),
    "changed record": (changed_record, FAULT, "audit verify"),
    "shortened chain": (shortened_chain, FAULT, "audit verify"),
    # HubSpot
    "revoked token": (token(TokenState.REVOKED), FAULT, "HubSpot rejects the access token"),
    "expired token": (token(TokenState.EXPIRED), FAULT, "HubSpot rejects the access token"),
    "scope that a handler needs": (missing_scope, FAULT, "lacks scopes that handlers need"),
    "scope that no handler needs": (scope_without_need, WARNING, "no handler needs: a leaked token could do more harm"),
    "clock ahead of HubSpot's": (clock_ahead(3600), FAULT, "HubSpot's deliveries are refused as too old"),
    "clock behind HubSpot's": (clock_ahead(-3600), FAULT, "HubSpot's deliveries are refused as signed in the future"),
    "clock a little wrong": (clock_ahead(60), WARNING, "The clocks of HubSpot and of this machine differ"),
    "clock of Redis": (clock_ahead(60), WARNING, "The clocks of Redis and of this machine differ"),
    "token of another portal": (settings(PORTAL_IDS="7"), FAULT, "which PORTAL_IDS does not list"),
    "HubSpot away": (settings(HUBSPOT_API_URL=f"http://{CLOSED}"), WARNING, "HubSpot cannot be reached"),
    # workers and events
    "no worker": (no_worker, WARNING, "0 worker"),
    "no process": (no_process, WARNING, "0 web, 0 worker"),
    "paused portal": (paused, WARNING, "spokes resume"),
    "late queue": (late_queue, WARNING, "workers do not keep up"),
    "dead letters": (dead_letters(1), WARNING, "spokes dead list"),
    "dead letters about to expire": (dead_letters(28), FAULT, "spokes dead list"),
    "parked deliveries": (parked, WARNING, "No worker has the credentials of portal 7"),
    "stuck delivery": (alert(Alert.DELIVERY_OVERDUE, subject="7-1"), WARNING, "delivery_overdue is active"),
    "stopped claims": (alert(Alert.CLAIMS_STOPPED), WARNING, "claims_stopped is active"),
    "lost events": (alert(Alert.EVENTS_LOST), WARNING, "events_lost is active"),
    "lost data": (alert(Alert.REDIS_DATA_LOST), WARNING, "redis_data_lost is active"),
    "unkept checkpoint": (alert(Alert.CHECKPOINT_NOT_KEPT), WARNING, "checkpoint_not_kept is active"),
    "dead alert webhook": (webhook("hook"), FAULT, "alerts reach nobody"),
    "deleted alert webhook": (deleted_webhook, FAULT, "answers 410: the webhook was deleted"),
    "secret in clear": (unsealed_secret, FAULT, "cannot be decrypted"),
    "old secret": (old_secret, WARNING, "Rotate it"),
}


@pytest.mark.parametrize("name", BREAKAGES)
async def test_breakage_is_named_with_what_to_do(deployment: Deployment, name: str) -> None:
    await assert_is_named(deployment, BREAKAGES[name])


def server_setting(name: str, value: str) -> Breakage:
    async def change(deployment: Deployment) -> None:
        await deployment.redis.config_set(name, value)

    return change


def command(*words: str) -> Breakage:
    async def change(deployment: Deployment) -> None:
        await deployment.redis.execute_command(*words)  # type: ignore[no-untyped-call]

    return change


async def no_memory(deployment: Deployment) -> None:
    await deployment.redis.config_set("maxmemory", "20mb")
    await fill_memory(deployment.redis)


async def no_disk(deployment: Deployment) -> None:
    """Make the next snapshot fail: the folder is gone."""
    await deployment.redis.config_set("save", "3600 1")
    await deployment.redis.config_set("dir", "/proc")
    await deployment.redis.execute_command("BGSAVE")  # type: ignore[no-untyped-call]
    while (await deployment.redis.info("persistence"))["rdb_last_bgsave_status"] == "ok":  # noqa: ASYNC110 - of a server
        await asyncio.sleep(0.02)


async def few_connections(deployment: Deployment) -> None:
    clients = [Redis(**deployment.redis.connection_pool.connection_kwargs) for _ in range(50)]
    await asyncio.gather(*(client.ping() for client in clients))
    await deployment.redis.config_set("maxclients", 60)
    deployment.clients += clients


SERVER_BREAKAGES: dict[str, tuple[Breakage, int, str]] = {
    "wrong password": (server_setting("requirepass", "another-password"), FAULT, "NOAUTH"),
    "replica": (command("REPLICAOF", "127.0.0.1", "1"), FAULT, "READONLY"),
    "failed snapshot": (no_disk, FAULT, "MISCONF"),
    "too few replicas": (server_setting("min-replicas-to-write", "1"), FAULT, "NOREPLICAS"),
    "no memory": (no_memory, FAULT, "maxmemory"),
    "eviction": (server_setting("maxmemory-policy", "allkeys-lru"), FAULT, "Set maxmemory-policy to noeviction"),
    "no append-only file": (server_setting("appendonly", "no"), FAULT, "Set appendonly to yes"),
    "few connections": (few_connections, WARNING, "connections in use"),
    "user without a permission": (command("ACL", "SETUSER", "default", "-zadd"), FAULT, "NOPERM"),
    "user without INFO": (command("ACL", "SETUSER", "default", "-info"), WARNING, "+info"),
}


@pytest.mark.parametrize("name", SERVER_BREAKAGES)
async def test_breakage_of_the_redis_server_is_named(environ: dict[str, str], tmp_path: Path, name: str) -> None:
    breakage, exit_code, words = SERVER_BREAKAGES[name]
    async with (
        own_server(tmp_path / "own", appendonly="yes", enable_protected_configs="yes") as (url, redis),
        running_deployment({**environ, "REDIS_URL": url}, redis) as deployment,
    ):
        await deployment.migrate()
        await breakage(deployment)
        done = await doctor(deployment)
        with suppress(RedisError):
            await redis.config_set("save", "")  # or the server would not end without a snapshot
    text_ = sentences(done)
    assert (done.returncode, words in text_, "Traceback" in done.stderr) == (exit_code, True, False), text_


async def test_redis_busy_with_a_script_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    async with (
        own_server(tmp_path / "own", appendonly="yes", busy_reply_threshold="100") as (url, redis),
        running_deployment({**environ, "REDIS_URL": url}, redis) as deployment,
        busy_script(url, redis),
    ):
        done = await doctor(deployment)
    assert (done.returncode, "BUSY: a script keeps Redis busy" in sentences(done)) == (FAULT, True)


async def test_redis_that_loads_its_data_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    async with (
        own_server(tmp_path / "own", appendonly="yes", **LOADABLE) as (url, redis),
        running_deployment({**environ, "REDIS_URL": url}, redis) as deployment,
        loading(url, redis),
    ):
        done = await doctor(deployment)
    assert (done.returncode, "LOADING: Redis loads its data" in sentences(done)) == (FAULT, True)


@pytest.mark.parametrize("state", ["new", "migrated", "first events", "purged", "restored from a copy"])
async def test_healthy_deployment_is_silent_in_each_of_its_first_states(
    deployment: Deployment, tmp_path: Path, state: str
) -> None:
    if state == "new":
        deployment.environ["DATABASE_URL"] += "-not-migrated"
    elif state != "migrated":
        await deployment.archive()
    if state == "purged":
        engine = open_engine(deployment.settings.database_address)
        await retention.purge(engine, KEY, before_ms=time.time_ns() // 1_000_000 + DAY_MS)
        await engine.dispose()
    if state == "restored from a copy":
        copy = tmp_path / "copy.sqlite"
        engine = open_engine(deployment.settings.database_address)
        async with engine.connect() as connection:
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(
                text(f"VACUUM INTO '{copy}'")
            )
        await engine.dispose()
        deployment.environ["DATABASE_URL"] = f"sqlite:///{copy}"
    done = await doctor(deployment)
    assert (done.returncode, done.stdout) == (0, ""), sentences(done)
