"""Disruptions of OAuth: tokens expire, refreshes and installs are interrupted, HubSpot refuses the app or loses it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from fnmatch import fnmatchcase
from random import Random
from typing import Final

from chaos.oauth.portals import PORTALS, REMOVING
from chaos.stack import Stack
from spokes.simulator.api.faults import Fault
from spokes.simulator.api.request_log import LoggedCall
from spokes.simulator.config import Latency

_TOKEN_ENDPOINT: Final = "/oauth/*/token"  # noqa: S105 - a path
_INTROSPECTION: Final = "/oauth/*/introspect"
_BEGINS_S: Final = 6.0  # until a call of the endpoint has begun, at the latest
_SLOW_MS: Final = 1500.0
_IN_FLIGHT_S: Final = 0.5  # further calls may begin, for other portals, in other workers
_LOST_LEASE_S: Final = 8.0  # longer than the lease of a refresh


async def expire_tokens(stack: Stack, duration_s: float, rng: Random) -> None:
    """End all access tokens earlier than HubSpot said, so that all workers refresh them at once."""
    del duration_s, rng
    stack.sim.installs.expire_access_tokens()


async def refuse_app(stack: Stack, duration_s: float, rng: Random) -> None:
    """Refuse the app's client secret."""
    del rng
    stack.sim.installs.refuses_client = True
    try:
        await asyncio.sleep(2 * duration_s)
    finally:
        stack.sim.installs.refuses_client = False


async def kill_during_refresh(stack: Stack, duration_s: float, rng: Random) -> None:
    """Kill a worker while it waits for new tokens, which HubSpot has issued."""
    name = stack.random_worker(rng)
    async with stack.exclusive(name):
        async with _slow_call(stack, _TOKEN_ENDPOINT, stack.sim.installs.expire_access_tokens):
            await stack.processes[name].stop(signal.SIGKILL)
        await asyncio.sleep(duration_s)
        await stack.processes[name].start()


async def freeze_during_refresh(stack: Stack, duration_s: float, rng: Random) -> None:
    """Freeze a worker while it waits for new tokens, until another worker has refreshed them too."""
    del duration_s
    name = stack.random_worker(rng)
    async with stack.exclusive(name):
        try:
            async with _slow_call(stack, _TOKEN_ENDPOINT, stack.sim.installs.expire_access_tokens):
                stack.processes[name].send_signal(signal.SIGSTOP)
            await asyncio.sleep(_LOST_LEASE_S)
        finally:
            stack.processes[name].send_signal(signal.SIGCONT)


async def stop_store_during_refresh(stack: Stack, duration_s: float, rng: Random) -> None:
    """Stop PostgreSQL while workers wait for new tokens; kill one of them before it is back."""
    name = stack.random_worker(rng)
    async with stack.exclusive("postgres", name):
        async with _slow_call(stack, _TOKEN_ENDPOINT, stack.sim.installs.expire_access_tokens):
            await stack.processes["postgres"].stop(signal.SIGQUIT)
        await asyncio.sleep(duration_s + _SLOW_MS / 1000)
        await stack.processes[name].stop(signal.SIGKILL)
        await stack.processes["postgres"].start()
        await stack.wait_until_listening(stack.ports["postgres"])
        await stack.processes[name].start()


async def remove_app(stack: Stack, duration_s: float, rng: Random) -> None:
    """Remove the app from one portal while its events arrive, and install it again."""
    del rng
    async with stack.exclusive("app"):
        stack.sim.installs.uninstall(REMOVING)
        await asyncio.sleep(3 * duration_s)
        await stack.portals.install(REMOVING)


async def kill_during_callback(stack: Stack, duration_s: float, rng: Random) -> None:
    """Kill web and its console between the exchange of a code and the save of the tokens; the customer starts again.

    One of the portals has removed the app before, so that none of its tokens works meanwhile.
    """
    portal_id = rng.choice(PORTALS)
    async with stack.exclusive("web", "app"), asyncio.TaskGroup() as tasks:
        if portal_id == REMOVING:
            stack.sim.installs.uninstall(portal_id)
        async with _slow_call(stack, _INTROSPECTION, lambda: tasks.create_task(stack.portals.install(portal_id))):
            for pid in stack.web.child_pids:
                os.kill(pid, signal.SIGKILL)
            await stack.web.stop(signal.SIGKILL)
        await asyncio.sleep(duration_s)
        await stack.web.start()
        await stack.wait_until_listening(stack.ports["web"])


@asynccontextmanager
async def _slow_call(stack: Stack, path: str, cause: Callable[[], object]) -> AsyncIterator[None]:
    """Delay HubSpot's answers to calls of `path`, which take effect at once; enter when `cause` has caused one."""
    requests = stack.sim.requests
    before = requests.total
    number = stack.sim.faults.add(Fault(path=path, latency=Latency(_SLOW_MS), after_effect=True))
    try:
        cause()
        with suppress(TimeoutError):  # nothing was called: what follows disrupts the processes all the same
            async with asyncio.timeout(_BEGINS_S):
                while not _was_called(list(requests)[before - requests.total :], path):  # noqa: ASYNC110 - another process calls
                    await asyncio.sleep(0.02)
        await asyncio.sleep(_IN_FLIGHT_S)
        yield
    finally:
        stack.sim.faults.remove(number)


def _was_called(calls: Iterable[LoggedCall], path: str) -> bool:
    return any(fnmatchcase(call.path, path) for call in calls)
