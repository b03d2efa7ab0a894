"""Restored parts that do not belong together: another key, an older Redis, an older audit store."""

import asyncio
import shutil
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.records import TERMINAL
from spokes.audit.sql.engine import open_engine
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import StoredSecrets
from spokes.queue.quarantine import NewContent, Quarantine
from spokes.simulator.app import Simulator
from tests.support.command_line import CompletedCommand, spokes
from tests.support.deployment import KEY
from tests.support.events import append_records, record
from tests.support.processes.worker_processes import Workers, queue, until, until_ready
from tests.support.redis_server import own_server

PORTAL = 50112233
SECRETS_KEY = "secrets-key-for-tests-5b1f0c7e9a3d2846"


@dataclass
class Deployment:
    """A deployment with SQLite whose files are copied and restored while its servers are stopped."""

    environ: dict[str, str]
    hubspot: Simulator
    folder: Path

    @property
    def redis_folder(self) -> Path:
        return self.folder / "redis"

    @property
    def audit_file(self) -> Path:
        return self.folder / "audit.sqlite"

    def copy(self, name: str) -> None:
        """Copy the files of both stores."""
        shutil.copytree(self.redis_folder, self.folder / name / "redis")
        shutil.copy(self.audit_file, self.folder / name / "audit.sqlite")

    def restore_redis(self, name: str) -> None:
        shutil.rmtree(self.redis_folder)
        shutil.copytree(self.folder / name / "redis", self.redis_folder)

    def restore_audit(self, name: str) -> None:
        shutil.copy(self.folder / name / "audit.sqlite", self.audit_file)

    def server(self) -> AbstractAsyncContextManager[tuple[str, Redis]]:
        self.redis_folder.mkdir(exist_ok=True)
        return own_server(self.redis_folder, appendonly="yes")

    def engine(self) -> AsyncEngine:
        return open_engine(Settings.from_env(self.environ).database_address)

    async def archive(self, redis: Redis) -> None:
        engine = self.engine()
        await Archiver(redis, engine, KEY, checkpoint_every=1).drain()
        await engine.dispose()

    async def spokes(self, url: str, *arguments: str, **environ: str) -> CompletedCommand:
        settings = {**self.environ, "REDIS_URL": url, "HUBSPOT_API_URL": self.hubspot.url, **environ}
        return await asyncio.to_thread(spokes, settings, *arguments)

    async def final_outcomes(self, url: str) -> list[str]:
        """Return the final outcomes in the audit store, oldest first."""
        exported = await self.spokes(url, "audit", "export", "--action", "event", "--event-key", "aa")
        records = [orjson.loads(line) for line in exported.stdout.splitlines()]
        return [each["outcome"] for each in records if each["outcome"] in TERMINAL]

    async def run_worker(self, url: str, redis: Redis) -> None:
        """Run a worker until the queued event has ended; its records stay in the stream."""
        unreachable = {"DATABASE_URL": "postgres://127.0.0.1:1/none"}
        workers = Workers({**self.environ, **unreachable, "REDIS_URL": url, "HUBSPOT_API_URL": self.hubspot.url})
        try:
            workers.start()
            await until("resolved", redis=redis, hubspot=self.hubspot)
        finally:
            workers.end()


@pytest.fixture
def deployment(environ: dict[str, str], hubspot: Simulator, tmp_path: Path) -> Deployment:
    stores = {"DATABASE_URL": f"sqlite:///{tmp_path}/audit.sqlite", "SECRETS_KEY": SECRETS_KEY}
    return Deployment({**environ, **stores}, hubspot, tmp_path)


@pytest.mark.slow  # starts two servers and a worker
async def test_wrong_keys_after_a_restore_are_named(deployment: Deployment) -> None:
    async with deployment.server() as (url, redis):
        await deployment.archive(redis)
        settings = Settings.from_env(deployment.environ)
        await StoredSecrets(redis, Vault.from_settings(settings)).put(PORTAL, "refresh_token", "of a customer")
        content = NewContent(PORTAL, "aa", "not_an_event", b"{}")
        alert = Alert.ELEMENTS_QUARANTINED
        await Quarantine.from_settings(redis, settings).keep([content], delivery_id="d", alert=alert)
        await queue(redis, deployment.hubspot)
        await deployment.run_worker(url, redis)
    deployment.copy("backup")
    deployment.restore_redis("backup")
    async with deployment.server() as (url, redis):
        right = await deployment.spokes(url, "doctor", "--quiet")
        audit_key = await deployment.spokes(url, "doctor", "--quiet", AUDIT_KEY=f"another-{KEY}")
        secrets_key = await deployment.spokes(url, "doctor", "--quiet", SECRETS_KEY=f"another-{SECRETS_KEY}")
    assert not [words for words in ("cannot be decrypted", "cannot be opened", "AUDIT_KEY") if words in right.stdout]
    assert (audit_key.returncode, "its AUDIT_KEY differs from ours" in " ".join(audit_key.stdout.split())) == (1, True)
    text = " ".join(secrets_key.stdout.split())
    assert (secrets_key.returncode, "AUDIT_KEY differs" in text) == (1, False)
    assert "refresh_token of portal 50112233 cannot be decrypted" in text
    assert "Of the newest quarantined contents, 1 cannot be opened: their key is missing from SECRETS_KEY" in text


@pytest.mark.slow  # starts three servers and two workers
async def test_events_run_again_and_records_stay_single_if_redis_is_older_than_the_audit_store(
    deployment: Deployment,
) -> None:
    async with deployment.server() as (url, redis):
        await deployment.archive(redis)
        await append_records(redis, *(record(number) for number in (1, 2, 3)))  # not archived yet
        await queue(redis, deployment.hubspot)
    deployment.copy("older")
    async with deployment.server() as (url, redis):
        await deployment.archive(redis)
        await deployment.run_worker(url, redis)
        await deployment.archive(redis)
        assert await deployment.final_outcomes(url) == ["processed"]
    deployment.restore_redis("older")
    async with deployment.server() as (url, redis):
        await deployment.archive(redis)  # the three again
        await deployment.run_worker(url, redis)
        await deployment.archive(redis)
        outcomes = await deployment.final_outcomes(url)
        verified = await deployment.spokes(url, "audit", "verify")
        exported = await deployment.spokes(url, "audit", "export")
    assert outcomes == ["processed", "processed"]
    assert verified.returncode == 0, verified
    event_keys = [orjson.loads(line)["event_key"] for line in exported.stdout.splitlines()]
    assert [event_keys.count(record(number).event_key) for number in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.slow  # starts two servers and two workers
async def test_no_event_runs_again_if_the_audit_store_is_older_than_redis(deployment: Deployment) -> None:
    async with deployment.server() as (url, redis):
        await append_records(redis, record(1))
        await deployment.archive(redis)
    deployment.copy("older")
    async with deployment.server() as (url, redis):
        await queue(redis, deployment.hubspot)
        await deployment.run_worker(url, redis)
        await deployment.archive(redis)
    calls = len(deployment.hubspot.requests.find(path="*/contacts/*"))
    deployment.restore_audit("older")
    async with deployment.server() as (url, redis):
        verified = await deployment.spokes(url, "audit", "verify")
        doctor = await deployment.spokes(url, "doctor", "--quiet")
        workers = Workers({**deployment.environ, "REDIS_URL": url, "HUBSPOT_API_URL": deployment.hubspot.url})
        try:
            await until_ready(workers.start())
            await asyncio.sleep(2)
        finally:
            workers.end()
    assert len(deployment.hubspot.requests.find(path="*/contacts/*")) == calls
    assert verified.returncode == 1
    assert (doctor.returncode, "an older backup was restored" in " ".join(doctor.stdout.split())) == (1, True)
