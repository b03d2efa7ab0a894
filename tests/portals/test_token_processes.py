"""Several processes, one portal's tokens: one refresh, also when a process is killed during it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from spokes.portals.store import REFRESH_INTERRUPTED, PortalState
from spokes.simulator.api.faults import Fault
from spokes.simulator.config import Latency, OAuthConfig
from tests.portals.conftest import KEY, AppWorld
from tests.support.deployment import ROOT

PORTALS = (700100, 700200, 700300)
TOKEN_ENDPOINT = "/oauth/*/token"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
async def start(world: AppWorld, valkey_url: str) -> AsyncIterator[Start]:
    """Start a process for the portals; it is ready, and waits for a line."""
    processes: list[subprocess.Popen[str]] = []

    def start_process(*portals: int) -> subprocess.Popen[str]:
        arguments = [valkey_url, world.address, world.hub.url, world.hub.config.client_secret, KEY]
        process = subprocess.Popen(
            [sys.executable, "tests/support/processes/token_process.py", *arguments, *map(str, portals)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start_process
    for process in processes:
        process.kill()
        process.communicate()


async def outcomes(process: subprocess.Popen[str]) -> set[str]:
    """Return what a process prints after its start."""
    return set((await asyncio.to_thread(process.communicate))[0].splitlines())


def begin(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


async def kill_during_refresh(world: AppWorld, start: Start, portal_id: int) -> None:
    """Kill a process while it waits for new tokens, which HubSpot has issued."""
    number = world.hub.faults.add(Fault(path=TOKEN_ENDPOINT, latency=Latency(60_000), after_effect=True))
    killed = start(portal_id)
    begin(killed)

    async def is_issued() -> bool:
        return world.refreshes(portal_id) == 1

    await world.wait_until(is_issued)
    killed.kill()
    world.hub.faults.remove(number)


@pytest.mark.slow
@pytest.mark.parametrize("oauth_config", [OAuthConfig(rotates_refresh_tokens=True)])
async def test_two_processes_refresh_each_portal_once(world: AppWorld, start: Start) -> None:
    for portal_id in PORTALS:
        await world.install(portal_id, expires_in_s=-60)
    world.hub.faults.add(Fault(path=TOKEN_ENDPOINT, latency=Latency(200)))
    processes = start(*PORTALS), start(*PORTALS)
    begin(*processes)
    for process in processes:
        assert await outcomes(process) == {f"{portal_id} ok" for portal_id in PORTALS}
    assert [world.refreshes(portal_id) for portal_id in PORTALS] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("oauth_config", [
    OAuthConfig(), OAuthConfig(rotates_refresh_tokens=True, keeps_previous_refresh_token=True),
], ids=["same", "rotating"])  # fmt: skip
async def test_process_that_is_killed_during_a_refresh_costs_no_install(world: AppWorld, start: Start) -> None:
    """The answer is lost with the process; another one takes over once the lease has expired."""
    portal_id = PORTALS[0]
    await world.install(portal_id, expires_in_s=-60)
    await kill_during_refresh(world, start, portal_id)
    successor = start(portal_id)
    begin(successor)
    assert await outcomes(successor) == {f"{portal_id} ok"}
    assert (await world.portal(portal_id)).state is PortalState.INSTALLED


@pytest.mark.slow
@pytest.mark.parametrize("oauth_config", [OAuthConfig(rotates_refresh_tokens=True)])
async def test_portal_whose_new_tokens_died_with_a_process_needs_a_reinstall_for_that_reason(
    world: AppWorld, start: Start
) -> None:
    portal_id = PORTALS[0]
    await world.install(portal_id, expires_in_s=-60)
    await kill_during_refresh(world, start, portal_id)
    successor = start(portal_id)
    begin(successor)
    assert await outcomes(successor) == {f"{portal_id} no_credentials"}
    portal = await world.portal(portal_id)
    assert (portal.state, portal.reason) == (PortalState.NEEDS_REINSTALL, REFRESH_INTERRUPTED)
