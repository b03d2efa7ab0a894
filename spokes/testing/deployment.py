"""The parts that a test drives: a simulated HubSpot, a receiver and a worker, all in one event loop and over HTTP."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import ModuleType
from typing import Final

import orjson
from aiohttp import web

from ingest.app import create_app
from ingest.server.http_server import app_runner
from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import ENTRY_FIELD, decode
from spokes.core.redis.connections import redis_client
from spokes.core.redis.keys import AUDIT_STREAM, QUEUES, held_deliveries
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.vault import Vault
from spokes.portals.profile import PortalProfile
from spokes.portals.profile_store import with_values
from spokes.portals.published_profiles import publish
from spokes.queue.held_deliveries import HeldDeliveries
from spokes.queue.pauses.call_pauses import HANDLER_PREFIX
from spokes.queue.pauses.handler_pauses import HandlerPauses
from spokes.routing import Router
from spokes.simulator.api.account import all_scopes
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig, Target
from spokes.simulator.portal import Portal
from spokes.testing.fake_hosts import FakeHosts
from spokes.testing.recorder import Recorder
from spokes.testing.virtual_clock import VirtualClock
from workers.queue.arq_worker import ArqBatchWorker
from workers.worker import build_worker

_PUBLIC_URL: Final = "https://spokes.example.com"
_TOKEN: Final = "pat-na1-simulated-by-the-test-kit"  # noqa: S105 - valid for the simulator only
_AUDIT_KEY: Final = "a-key-of-the-test-kit-1f7c3a9e5b2d8046"
_STEPS: Final = 1_000  # jumps of the clock in one run: more than any schedule of retries has
_OPERATOR: Final = "the test"
_HANDLERS: Final = "spokes_testing_handlers"  # the module whose ROUTER has the recorded handlers


class NotAdmitted(Exception):
    """The receiver refused a request of the test."""


class KitDeployment:
    """One deployment for the tests of one router and of one set of settings. `open` and `close` it.

    HubSpot has the default account and those of `portal_ids`. Each has a token and a worker of its own.
    """

    def __init__(
        self, redis_url: str, router: Router, variables: Mapping[str, str], portal_ids: Sequence[int] = ()
    ) -> None:
        self.clock = VirtualClock()
        self.recorder = Recorder()
        self.http = FakeHosts()
        self._module = f"{_HANDLERS}_{id(self)}"
        module = sys.modules[self._module] = ModuleType(self._module)
        module.ROUTER = self.recorder.observe(router)  # type: ignore[attr-defined]  # what `load_router` reads
        self._handlers = router.names
        default = PortalConfig(token=_TOKEN)
        others = [replace(default, portal_id=portal_id, token=f"{_TOKEN}-{portal_id}") for portal_id in portal_ids]
        self.simulator = Simulator(SimulatorConfig(portals=(default, *others)), clock=self.clock)
        self._variables = {
            "HUBSPOT_CLIENT_SECRET": self.simulator.config.client_secret,
            "HUBSPOT_ACCESS_TOKEN": _TOKEN,
            "PUBLIC_URL": _PUBLIC_URL,
            "REDIS_URL": redis_url,
            "AUDIT_KEY": _AUDIT_KEY,
            **variables,
            "HANDLERS": self._module,
        }
        self._profiles: dict[int, PortalProfile] = {}
        self._workers: list[ArqBatchWorker] = []
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Start the simulator and the receiver.

        Raises:
            ConfigurationError: a setting of the test is wrong.
        """
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self.simulator)
            folder = opening.enter_context(tempfile.TemporaryDirectory(prefix="spokes-testing-"))
            addresses = {"HUBSPOT_API_URL": self.simulator.url, "DATA_DIR": folder}
            self._variables |= addresses
            settings = Settings.from_env(self._variables)
            self.redis = redis_client(settings, max_connections=5)
            opening.push_async_callback(self.redis.aclose)
            runner = app_runner(create_app(settings), graceful_s=1.0)
            await runner.setup()
            opening.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            address = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self.simulator.sender.target = Target(_PUBLIC_URL + RECEIVER_PATH, address + RECEIVER_PATH)
            self._stack = opening.pop_all()

    async def close(self) -> None:
        """Close all parts."""
        await self.end_workers()
        await self._stack.aclose()
        sys.modules.pop(self._module, None)

    async def begin_test(self) -> None:
        """Empty Redis and HubSpot, and begin at the present time."""
        self.clock.reset()
        self.clock.install()
        await self.redis.flushall()
        self.simulator.reset()
        for portal in self.simulator.portals.values():
            portal.config = replace(portal.config, scopes=None)
            portal.replace_tokens(portal.config.token)
        self.recorder.runs.clear()
        self._profiles.clear()
        self.http.reset()

    async def set_portal(self, profile: PortalProfile, values: Mapping[str, str]) -> None:
        """Set what differs for one portal; it replaces what the test set before."""
        vault = Vault.from_settings(Settings.from_env(self._variables))
        self._profiles[profile.portal_id] = with_values(vault, profile, values)
        await publish(self.redis, self._profiles.values())
        for worker in await self.start_workers():
            await worker.ctx["parts"].profiles.refresh()

    async def add_fault(self, fault: Fault) -> None:
        """Make calls of HubSpot fail once the worker has started: one that starts during an outage waits."""
        await self.start_workers()
        self.simulator.faults.add(fault)

    async def remove_scopes(self, portal: Portal, scopes: Sequence[str]) -> None:
        """Take scopes from an account's access token.

        Raises:
            ValueError: HubSpot has no such scope.
        """
        known = frozenset(all_scopes())
        granted = known if portal.config.scopes is None else portal.config.scopes
        for scope in scopes:
            if scope not in known:
                raise ValueError(f"{scope!r} is no scope of the simulated HubSpot: write one such as {min(known)}.")
        portal.config = replace(portal.config, scopes=granted - frozenset(scopes))

    async def pause_handler(self, handler: str, portal_id: int | None) -> None:
        """Pause a handler in one account, or in all, as an operator does.

        Raises:
            ValueError: there is no such handler.
        """
        if handler not in self._handlers:
            raise ValueError(f"there is no handler {handler!r}; the handlers are {', '.join(self._handlers)}.")
        await self.start_workers()
        await HandlerPauses(self.redis).pause(handler, portal_id, actor=_OPERATOR, reason="")

    async def resume_handler(self, handler: str) -> None:
        """Resume a handler in every account.

        Raises:
            ValueError: it is not paused.
        """
        if not await HandlerPauses(self.redis).resume(handler, None, actor=_OPERATOR, reason=""):
            raise ValueError(f"the handler {handler!r} is not paused.")

    async def end_test(self) -> None:
        """End the test's worker, and return to real time."""
        await self.end_workers()
        self.clock.reset()

    async def send(self, body: bytes, portal_id: int) -> dict[str, int]:
        """Send one signed request, as HubSpot does; return the number of events by how they were admitted.

        Raises:
            NotAdmitted: the receiver did not answer 202.
        """
        attempt = await self.simulator.sender.send(body, portal_id=portal_id)
        if not attempt.acknowledged:
            raise NotAdmitted(f"the receiver answered {attempt.status or attempt.failure} to the test's request")
        answer = orjson.loads(attempt.answer)
        return {name: answer[name] for name in ("admitted", "duplicate", "ignored", "quarantined")}

    async def work(self, *, until_ms: int | None = None) -> None:
        """Run what is due now, and then what is due until a time of the clock, which advances from one to the next.

        None as `until_ms` runs until nothing is queued, or until only an end of HubSpot's failure would help.
        """
        workers = await self.start_workers()
        for _ in range(_STEPS):
            for worker in workers:
                await worker.ctx["pauses"].refresh()
                await worker.run_due_jobs()
            due_ms = await self._next_due_ms()
            if due_ms is None or (until_ms is not None and due_ms > until_ms):
                return
            if until_ms is None and await self._needs_help(workers[0]):
                return
            await self.advance(due_ms - self.clock.now_ms())
        raise RuntimeError(f"events are still queued after {_STEPS} runs of the worker")

    async def advance(self, milliseconds: int) -> None:
        """Advance the clock of the test."""
        await self.clock.advance(self.redis, milliseconds)

    async def _needs_help(self, worker: ArqBatchWorker) -> bool:
        """Return whether a portal is paused, and for an unknown time."""
        return any(pause.until is None for pause in (await worker.ctx["pauses"].list()).values())

    async def start_workers(self) -> list[ArqBatchWorker]:
        """Return the workers of this test, one for each account, started on first use."""
        if not self._workers:
            for portal in self.simulator.portals.values():
                settings = Settings.from_env({**self._variables, "HUBSPOT_ACCESS_TOKEN": portal.config.token})
                worker = build_worker(settings, has_upkeep=False)
                self._workers.append(worker)
                await worker.run_due_jobs()
                worker.ctx["budget"].sleep = self._sleep
                http = worker.ctx["parts"].http
                http.send, http.rates.sleep = self.http.send, self._sleep
                await worker.ctx["parts"].missing_credentials.announce()
        return self._workers

    async def _sleep(self, seconds: float) -> None:
        await self.advance(round(seconds * 1000) + 1)

    async def end_workers(self) -> None:
        """Shut the workers down, if there are any."""
        workers, self._workers = self._workers, []
        for worker in workers:
            await worker.close()

    async def kill_workers(self) -> None:
        """End the workers without settling what they run, and let their leases lapse."""
        for worker in self._workers:
            for task in worker.tasks.values():
                task.cancel()
        await self.end_workers()
        for pattern in ("*:in-progress:*", "*:lane:*"):
            for key in await self.redis.keys(pattern):
                await self.redis.delete(key)

    async def event_records(self) -> list[AuditRecord]:
        """Return the audit records about events, in the order in which they were written."""
        records = [decode(fields[ENTRY_FIELD]) for _, fields in await self.redis.xrange(AUDIT_STREAM)]
        return [record for record in records if record.action is Action.EVENT]

    async def _next_due_ms(self) -> int | None:
        """Return when the next delivery is due, without those that wait for the end of a handler's pause."""
        held: set[bytes] = set()
        for calls in await HeldDeliveries(self.redis).waited_for():
            if calls.kind.startswith(HANDLER_PREFIX):
                held.update(await self.redis.zrange(held_deliveries(*calls), 0, -1))
        scores = [
            int(score)
            for queue in QUEUES.values()
            for delivery, score in await self.redis.zrange(queue, 0, len(held), withscores=True)
            if delivery not in held
        ]
        return min(scores, default=None)
