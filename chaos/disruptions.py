"""What each kind of trouble does to the house. Rule: whatever it breaks it mends, also when it is cut short."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Final, TypeAlias

from chaos.child_process import ROOT
from chaos.plan import Disruption, DisruptionKind
from chaos.stack import Stack, worker_command
from spokes.simulator.api.faults import Fault
from spokes.simulator.config import Latency
from spokes.simulator.demo import free_port, wait_until_ready

_Action: TypeAlias = Callable[[Stack, float, Random], Awaitable[None]]
_JUMPS_S: Final = (-25.0, -5.0, 5.0, 25.0)
_WORKER_START_S: Final = 3.0  # until a worker works
_HUBSPOT_SKEWS_MS: Final = (-600_000, -240_000, 240_000, 600_000)  # within what is accepted, and beyond


async def run_disruption(house: Stack, trouble: Disruption) -> None:
    """Make trouble, and mend it when it has lasted."""
    await _ACTIONS[trouble.kind](house, trouble.duration_s, trouble.rng())


async def _kill_worker(house: Stack, lasts_s: float, rng: Random) -> None:
    await _stop_and_restart(house, house.random_worker(rng), signal.SIGKILL, lasts_s)


async def _terminate_worker(house: Stack, lasts_s: float, rng: Random) -> None:
    await _stop_and_restart(house, house.random_worker(rng), signal.SIGTERM, lasts_s)


async def _freeze_worker(house: Stack, lasts_s: float, rng: Random) -> None:
    await _freeze(house, house.random_worker(rng), lasts_s)


async def _skew_worker_clock(house: Stack, lasts_s: float, rng: Random) -> None:
    name = house.random_worker(rng)
    async with house.exclusive(name):
        worker = house.processes[name]
        await house.terminate(worker)
        worker.command = worker_command(rng.choice(_JUMPS_S), rng.choice((0.0, _WORKER_START_S + lasts_s)))
        await worker.start()
        try:
            await asyncio.sleep(_WORKER_START_S + 3 * lasts_s)
            await house.terminate(worker)
        finally:
            worker.command = worker_command()
        await worker.start()


async def _kill_web(house: Stack, lasts_s: float, rng: Random) -> None:
    del rng
    await _stop_and_restart(house, "web", signal.SIGKILL, lasts_s)


async def _replace_web(house: Stack, lasts_s: float, rng: Random) -> None:
    del lasts_s, rng
    async with house.exclusive("web"):
        await _deploy_web(house)


async def _kill_valkey(house: Stack, lasts_s: float, rng: Random) -> None:
    del rng
    await _stop_and_restart(house, "valkey", signal.SIGKILL, lasts_s)


async def _restart_valkey(house: Stack, lasts_s: float, rng: Random) -> None:
    del rng
    await _stop_and_restart(house, "valkey", signal.SIGTERM, lasts_s)


async def _freeze_valkey(house: Stack, lasts_s: float, rng: Random) -> None:
    del rng
    await _freeze(house, "valkey", lasts_s)


async def _fill_disk(house: Stack, lasts_s: float, rng: Random) -> None:
    del rng
    async with house.exclusive("valkey"):
        house.fill_disk()
        try:
            await asyncio.sleep(lasts_s)
        finally:
            house.clear_disk()
        await asyncio.sleep(1.5)  # Valkey tries once a second; until then it is not well, and must not be killed


async def _restart_store(house: Stack, lasts_s: float, rng: Random) -> None:
    del rng
    await _stop_and_restart(house, "postgres", signal.SIGINT, lasts_s)


async def _kill_store(house: Stack, lasts_s: float, rng: Random) -> None:
    del rng
    await _stop_and_restart(house, "postgres", signal.SIGQUIT, lasts_s)  # it leaves at once, and recovers from its log


async def _refuse_crm_calls(house: Stack, lasts_s: float, rng: Random) -> None:
    await _inject_fault(house, Fault(status=503, share=rng.choice((0.5, 1.0))), lasts_s)


async def _cut_crm_responses(house: Stack, lasts_s: float, rng: Random) -> None:
    await _inject_fault(house, Fault(reset=True, after_effect=True, share=rng.choice((0.2, 0.7))), lasts_s)


async def _limit_crm_calls(house: Stack, lasts_s: float, rng: Random) -> None:
    await _inject_fault(house, Fault(status=429, share=0.7, retry_after=rng.choice((None, "1", "2"))), lasts_s)


async def _slow_crm_calls(house: Stack, lasts_s: float, rng: Random) -> None:
    await _inject_fault(house, Fault(share=rng.choice((0.3, 1.0)), latency=Latency(3000.0, 6000.0)), lasts_s)


async def _skew_hubspot_clock(house: Stack, lasts_s: float, rng: Random) -> None:
    house.sim.sender.clock_skew_ms = rng.choice(_HUBSPOT_SKEWS_MS)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        house.sim.sender.clock_skew_ms = 0


async def _cut_links(house: Stack, lasts_s: float, rng: Random) -> None:
    links = rng.sample(list(house.links.values()), 2)
    for _ in range(1 + round(lasts_s)):
        for link in links:
            link.cut()
        await asyncio.sleep(rng.uniform(0.1, 0.6))


async def _slow_link(house: Stack, lasts_s: float, rng: Random) -> None:
    link = rng.choice(list(house.links.values()))
    link.delay_s = rng.uniform(0.01, 0.4)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        link.resume()


async def _stall_link(house: Stack, lasts_s: float, rng: Random) -> None:
    link = rng.choice(list(house.links.values()))
    link.stall()
    try:
        await asyncio.sleep(2 * lasts_s)
    finally:
        link.resume()


async def _run_two_versions(house: Stack, lasts_s: float, rng: Random) -> None:
    name = house.random_worker(rng)
    async with house.exclusive(name, "web"):
        worker = house.processes[name]
        await house.terminate(worker)
        worker.cwd = house.other_version
        await worker.start()
        try:
            await _deploy_web(house, other=True)
            await asyncio.sleep(3 * lasts_s)
            await _deploy_web(house)
            await house.terminate(worker)
        finally:
            worker.cwd = ROOT
        await worker.start()


async def _stop_and_restart(house: Stack, name: str, number: signal.Signals, lasts_s: float) -> None:
    """End a part with a signal, and start it again after a while."""
    async with house.exclusive(name):
        part = house.processes[name]
        if number is signal.SIGTERM:
            await house.terminate(part)
        else:
            await part.stop(number)
        await asyncio.sleep(lasts_s)
        await part.start()
        if name in house.ports:
            await house.wait_until_listening(name)


async def _freeze(house: Stack, name: str, lasts_s: float) -> None:
    async with house.exclusive(name):
        house.processes[name].send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(lasts_s)
        finally:
            house.processes[name].send_signal(signal.SIGCONT)


@asynccontextmanager
async def _active_fault(house: Stack, fault: Fault) -> AsyncIterator[None]:
    number = house.sim.faults.add(fault)
    try:
        yield
    finally:
        house.sim.faults.remove(number)


async def _inject_fault(house: Stack, fault: Fault, lasts_s: float) -> None:
    async with _active_fault(house, fault):
        await asyncio.sleep(lasts_s)


async def _deploy_web(house: Stack, *, other: bool = False) -> None:
    """Put another web process in the place of the one that runs: it takes over, then the old one is told to end."""
    old, port = house.web, free_port()
    new = house.build_web(port)
    if other:
        new.cwd = house.other_version
    house.processes |= {"web": new, "web before": old}
    await new.start()
    await wait_until_ready(f"http://127.0.0.1:{port}")
    house.ports["web"] = port
    await house.terminate(old)
    del house.processes["web before"]


_ACTIONS: Final[Mapping[DisruptionKind, _Action]] = {
    DisruptionKind.WORKER_KILLED: _kill_worker,
    DisruptionKind.WORKER_ENDED: _terminate_worker,
    DisruptionKind.WORKER_FROZEN: _freeze_worker,
    DisruptionKind.WORKER_CLOCK: _skew_worker_clock,
    DisruptionKind.WEB_KILLED: _kill_web,
    DisruptionKind.WEB_REPLACED: _replace_web,
    DisruptionKind.VALKEY_KILLED: _kill_valkey,
    DisruptionKind.VALKEY_RESTARTED: _restart_valkey,
    DisruptionKind.VALKEY_FROZEN: _freeze_valkey,
    DisruptionKind.DISK_FULL: _fill_disk,
    DisruptionKind.STORE_RESTARTED: _restart_store,
    DisruptionKind.STORE_KILLED: _kill_store,
    DisruptionKind.CRM_DOWN: _refuse_crm_calls,
    DisruptionKind.CRM_CUT: _cut_crm_responses,
    DisruptionKind.CRM_LIMITS: _limit_crm_calls,
    DisruptionKind.CRM_SLOW: _slow_crm_calls,
    DisruptionKind.HUBSPOT_CLOCK: _skew_hubspot_clock,
    DisruptionKind.LINK_CUT: _cut_links,
    DisruptionKind.LINK_SLOW: _slow_link,
    DisruptionKind.LINK_STALLED: _stall_link,
    DisruptionKind.TWO_VERSIONS: _run_two_versions,
}
