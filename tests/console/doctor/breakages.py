"""A deployment of real parts that tests of `doctor` break, and the ways to break it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from aiohttp import web
from redis.asyncio import Redis
from sqlalchemy import Executable, text

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.archiver import Archiver
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine, write_connection
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.redis.deployment import claim_database
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.crm.scopes import required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.routing import load_router
from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig
from tests.support.command_line import CompletedCommand, spokes
from tests.support.deployment import KEY, TOKEN
from tests.support.events import append_records, record

PORTAL = PortalConfig().portal_id
WEBHOOK_SECRET = f"webhook-{KEY}"
FAULT, WARNING, REFUSED = 1, 0, 2  # exit codes
CLOSED = "127.0.0.1:1"


@dataclass
class Deployment:
    """The parts of a deployment: a test breaks one of them."""

    redis: Redis
    sim: Simulator
    environ: dict[str, str]
    receiver_status: int = 202
    webhook_status: int = 200  # of the same server at /hook
    clock_ahead_s: int = 0  # how far the clock of doctor's machine is ahead
    clients: list[Redis] = field(default_factory=list)  # further connections

    @property
    def settings(self) -> Settings:
        """The settings of its processes."""
        return Settings.from_env(self.environ)

    async def sql(self, statement: Executable) -> None:
        """Change the audit store."""
        engine = open_engine(self.settings.database_address)
        async with write_connection(engine) as connection:
            await connection.execute(statement)
        await engine.dispose()

    async def migrate(self) -> None:
        """Create the tables of the audit store."""
        engine = open_engine(self.settings.database_address)
        await schema.upgrade(engine)
        await engine.dispose()

    async def archive(self) -> None:
        """Archive the records of three events."""
        await append_records(self.redis, *(record(number) for number in range(3)))
        engine = open_engine(self.settings.database_address)
        await Archiver(self.redis, engine, KEY, checkpoint_every=1).drain()
        await engine.dispose()

    async def activate(self, alert: Alert, **fields: Any) -> None:
        """Activate an alert as a process does whose problem has outlasted the hold-down."""
        await AlertEpisodes(self.redis).set_state(alert, is_active=True, at_once=True, **fields)


Breakage = Callable[[Deployment], Awaitable[None]]
Named = tuple[Breakage, int, str]  # a breakage, doctor's exit code, and words of its finding


@asynccontextmanager
async def running_deployment(environ: dict[str, str], redis: Redis) -> AsyncIterator[Deployment]:
    """Run the simulator and a receiver; the database is claimed, and a web process and a worker have reported."""
    declarations = handler_declarations(load_router("handlers"))
    scopes = frozenset(min(alternatives) for alternatives in required_scopes(declarations))
    async with AsyncExitStack() as stack:
        portal = PortalConfig(token=TOKEN, scopes=scopes)
        sim = await stack.enter_async_context(Simulator(SimulatorConfig(portals=(portal,))))
        deployment = Deployment(redis, sim, {**environ, "HUBSPOT_API_URL": sim.url})

        async def respond(request: web.Request) -> web.Response:
            is_hook = request.path == "/hook"
            return web.Response(status=deployment.webhook_status if is_hook else deployment.receiver_status)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", respond)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        data = environ["DATA_DIR"]
        deployment.environ |= {
            "PUBLIC_URL": f"http://127.0.0.1:{runner.addresses[0][1]}", "DATABASE_URL": f"sqlite:///{data}.sqlite"
        }  # fmt: skip
        await report_processes(redis)
        await claim_database(redis, deployment.settings)
        yield deployment
        for client in deployment.clients:
            await client.aclose()


async def report_processes(redis: Redis) -> None:
    """Report a web process and a worker as they do."""
    now_s = time.time()
    await redis.zadd(keys.LIVE_PROCESSES, {"web:a": now_s, "worker:b": now_s})
    await redis.zadd(keys.CREDENTIAL_PORTALS, {str(PORTAL): now_s})


async def doctor(deployment: Deployment) -> CompletedCommand:
    ahead_ns = deployment.clock_ahead_s * 1_000_000_000
    with patch.object(clock, "read_ns", lambda: time.time_ns() + ahead_ns):
        # In a thread: the simulator and the receiver run in this one.
        return await asyncio.to_thread(spokes, deployment.environ, "doctor", "--quiet", "--json")


def sentences(done: CompletedCommand) -> str:
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    return "\n".join(f"{finding['level']}: {finding['sentence']}" for finding in findings) or done.stderr


async def assert_is_named(deployment: Deployment, named: Named) -> None:
    """Break a deployment: doctor names it, with its exit code and without a traceback."""
    breakage, exit_code, words = named
    await breakage(deployment)
    done = await doctor(deployment)
    text_ = sentences(done)
    assert (done.returncode, words in text_) == (exit_code, True), text_
    assert not any(word in done.stderr for word in ("Traceback", "RuntimeWarning")), done.stderr


def settings(**changes: str) -> Breakage:
    async def change(deployment: Deployment) -> None:
        deployment.environ |= changes

    return change


def statement(sql: str, *, with_records: bool = True) -> Breakage:
    async def change(deployment: Deployment) -> None:
        if with_records:
            await deployment.archive()
        await deployment.sql(text(sql))

    return change


def wrong_type(key: str) -> Breakage:
    async def change(deployment: Deployment) -> None:
        await deployment.redis.set(key, "not ours")

    return change


def response(status: int) -> Breakage:
    async def change(deployment: Deployment) -> None:
        deployment.receiver_status = status

    return change
