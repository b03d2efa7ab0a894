"""What each kind of trouble does to the house. Rule: whatever it breaks it mends, also when it is cut short."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Final, TypeAlias

from chaos.child_process import ROOT
from chaos.plan import Kind, Trouble
from chaos.stack import House, worker_command
from spokes.simulator.api.faults import Fault
from spokes.simulator.config import Latency
from spokes.simulator.demo import free_port, ready

_Act: TypeAlias = Callable[[House, float, Random], Awaitable[None]]
_JUMPS_S: Final = (-25.0, -5.0, 5.0, 25.0)
_UP_S: Final = 3.0  # until a worker works
_HUBSPOT_SKEWS_MS: Final = (-600_000, -240_000, 240_000, 600_000)  # within what is accepted, and beyond


async def make(house: House, trouble: Trouble) -> None:
    """Make trouble, and mend it when it has lasted."""
    await _ACTS[trouble.kind](house, trouble.lasts_s, trouble.rng())


async def _worker_killed(house: House, lasts_s: float, rng: Random) -> None:
    await _broken(house, house.some_worker(rng), signal.SIGKILL, lasts_s)


async def _worker_ended(house: House, lasts_s: float, rng: Random) -> None:
    await _broken(house, house.some_worker(rng), signal.SIGTERM, lasts_s)


async def _worker_frozen(house: House, lasts_s: float, rng: Random) -> None:
    await _frozen(house, house.some_worker(rng), lasts_s)


async def _worker_clock(house: House, lasts_s: float, rng: Random) -> None:
    name = house.some_worker(rng)
    async with house.alone(name):
        worker = house.parts[name]
        await house.told_to_end(worker)
        worker.command = worker_command(rng.choice(_JUMPS_S), rng.choice((0.0, _UP_S + lasts_s)))
        await worker.start()
        try:
            await asyncio.sleep(_UP_S + 3 * lasts_s)
            await house.told_to_end(worker)
        finally:
            worker.command = worker_command()
        await worker.start()


async def _web_killed(house: House, lasts_s: float, rng: Random) -> None:
    del rng
    await _broken(house, "web", signal.SIGKILL, lasts_s)


async def _web_replaced(house: House, lasts_s: float, rng: Random) -> None:
    del lasts_s, rng
    async with house.alone("web"):
        await _deploy(house)


async def _valkey_killed(house: House, lasts_s: float, rng: Random) -> None:
    del rng
    await _broken(house, "valkey", signal.SIGKILL, lasts_s)


async def _valkey_restarted(house: House, lasts_s: float, rng: Random) -> None:
    del rng
    await _broken(house, "valkey", signal.SIGTERM, lasts_s)


async def _valkey_frozen(house: House, lasts_s: float, rng: Random) -> None:
    del rng
    await _frozen(house, "valkey", lasts_s)


async def _disk_full(house: House, lasts_s: float, rng: Random) -> None:
    del rng
    async with house.alone("valkey"):
        house.fill_disk()
        try:
            await asyncio.sleep(lasts_s)
        finally:
            house.clear_disk()
        await asyncio.sleep(1.5)  # Valkey tries once a second; until then it is not well, and must not be killed


async def _store_restarted(house: House, lasts_s: float, rng: Random) -> None:
    del rng
    await _broken(house, "postgres", signal.SIGINT, lasts_s)


async def _store_killed(house: House, lasts_s: float, rng: Random) -> None:
    del rng
    await _broken(house, "postgres", signal.SIGQUIT, lasts_s)  # it leaves at once, and recovers from its log


async def _crm_down(house: House, lasts_s: float, rng: Random) -> None:
    await _faulty(house, Fault(status=503, share=rng.choice((0.5, 1.0))), lasts_s)


async def _crm_cut(house: House, lasts_s: float, rng: Random) -> None:
    await _faulty(house, Fault(reset=True, after_effect=True, share=rng.choice((0.2, 0.7))), lasts_s)


async def _crm_limits(house: House, lasts_s: float, rng: Random) -> None:
    await _faulty(house, Fault(status=429, share=0.7, retry_after=rng.choice((None, "1", "2"))), lasts_s)


async def _crm_slow(house: House, lasts_s: float, rng: Random) -> None:
    await _faulty(house, Fault(share=rng.choice((0.3, 1.0)), latency=Latency(3000.0, 6000.0)), lasts_s)


async def _hubspot_clock(house: House, lasts_s: float, rng: Random) -> None:
    house.sim.sender.skew_ms = rng.choice(_HUBSPOT_SKEWS_MS)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        house.sim.sender.skew_ms = 0


async def _link_cut(house: House, lasts_s: float, rng: Random) -> None:
    links = rng.sample(list(house.links.values()), 2)
    for _ in range(1 + round(lasts_s)):
        for link in links:
            link.cut()
        await asyncio.sleep(rng.uniform(0.1, 0.6))


async def _link_slow(house: House, lasts_s: float, rng: Random) -> None:
    link = rng.choice(list(house.links.values()))
    link.delay_s = rng.uniform(0.01, 0.4)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        link.flow()


async def _link_stalled(house: House, lasts_s: float, rng: Random) -> None:
    link = rng.choice(list(house.links.values()))
    link.stall()
    try:
        await asyncio.sleep(2 * lasts_s)
    finally:
        link.flow()


async def _two_versions(house: House, lasts_s: float, rng: Random) -> None:
    name = house.some_worker(rng)
    async with house.alone(name, "web"):
        worker = house.parts[name]
        await house.told_to_end(worker)
        worker.cwd = house.other_version
        await worker.start()
        try:
            await _deploy(house, other=True)
            await asyncio.sleep(3 * lasts_s)
            await _deploy(house)
            await house.told_to_end(worker)
        finally:
            worker.cwd = ROOT
        await worker.start()


async def _broken(house: House, name: str, number: signal.Signals, lasts_s: float) -> None:
    """End a part with a signal, and start it again after a while."""
    async with house.alone(name):
        part = house.parts[name]
        if number is signal.SIGTERM:
            await house.told_to_end(part)
        else:
            await part.end(number)
        await asyncio.sleep(lasts_s)
        await part.start()
        if name in house.ports:
            await house.comes_up(name)


async def _frozen(house: House, name: str, lasts_s: float) -> None:
    async with house.alone(name):
        house.parts[name].send(signal.SIGSTOP)
        try:
            await asyncio.sleep(lasts_s)
        finally:
            house.parts[name].send(signal.SIGCONT)


@asynccontextmanager
async def _fault(house: House, fault: Fault) -> AsyncIterator[None]:
    number = house.sim.faults.add(fault)
    try:
        yield
    finally:
        house.sim.faults.remove(number)


async def _faulty(house: House, fault: Fault, lasts_s: float) -> None:
    async with _fault(house, fault):
        await asyncio.sleep(lasts_s)


async def _deploy(house: House, *, other: bool = False) -> None:
    """Put another web process in the place of the one that runs: it takes over, then the old one is told to end."""
    old, port = house.web, free_port()
    new = house.new_web(port)
    if other:
        new.cwd = house.other_version
    house.parts |= {"web": new, "web before": old}
    await new.start()
    await ready(f"http://127.0.0.1:{port}")
    house.ports["web"] = port
    await house.told_to_end(old)
    del house.parts["web before"]


_ACTS: Final[Mapping[Kind, _Act]] = {
    Kind.WORKER_KILLED: _worker_killed,
    Kind.WORKER_ENDED: _worker_ended,
    Kind.WORKER_FROZEN: _worker_frozen,
    Kind.WORKER_CLOCK: _worker_clock,
    Kind.WEB_KILLED: _web_killed,
    Kind.WEB_REPLACED: _web_replaced,
    Kind.VALKEY_KILLED: _valkey_killed,
    Kind.VALKEY_RESTARTED: _valkey_restarted,
    Kind.VALKEY_FROZEN: _valkey_frozen,
    Kind.DISK_FULL: _disk_full,
    Kind.STORE_RESTARTED: _store_restarted,
    Kind.STORE_KILLED: _store_killed,
    Kind.CRM_DOWN: _crm_down,
    Kind.CRM_CUT: _crm_cut,
    Kind.CRM_LIMITS: _crm_limits,
    Kind.CRM_SLOW: _crm_slow,
    Kind.HUBSPOT_CLOCK: _hubspot_clock,
    Kind.LINK_CUT: _link_cut,
    Kind.LINK_SLOW: _link_slow,
    Kind.LINK_STALLED: _link_stalled,
    Kind.TWO_VERSIONS: _two_versions,
}
