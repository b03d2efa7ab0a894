"""What each kind of disruption does to processes, links and HubSpot, and the table of all kinds.

Each disruption restores the stack at its end, also if it is cancelled.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Final, TypeAlias

from chaos.child_process import ROOT
from chaos.disruptions import bad_events, oauth, other_application, redis_server
from chaos.plan import Disruption, DisruptionKind
from chaos.stack import Stack, worker_command
from spokes.core.process.listening_port import free_port
from spokes.simulator.api.faults import Fault
from spokes.simulator.config import Latency
from spokes.simulator.demo import wait_until_ready

_Action: TypeAlias = Callable[[Stack, float, Random], Awaitable[None]]
_JUMPS_S: Final = (-25.0, -5.0, 5.0, 25.0)
_WORKER_START_S: Final = 3.0  # until a worker is ready
_HUBSPOT_SKEWS_MS: Final = (-600_000, -240_000, 240_000, 600_000)  # within the accepted age of a request, and beyond it


async def run_disruption(stack: Stack, disruption: Disruption) -> None:
    """Apply a disruption for its duration, then restore the stack."""
    await _ACTIONS[disruption.kind](stack, disruption.duration_s, disruption.rng())


async def _kill_worker(stack: Stack, duration_s: float, rng: Random) -> None:
    await _stop_and_restart(stack, stack.random_worker(rng), signal.SIGKILL, duration_s)


async def _terminate_worker(stack: Stack, duration_s: float, rng: Random) -> None:
    await _stop_and_restart(stack, stack.random_worker(rng), signal.SIGTERM, duration_s)


async def _freeze_worker(stack: Stack, duration_s: float, rng: Random) -> None:
    await _freeze(stack, stack.random_worker(rng), duration_s)


async def _skew_worker_clock(stack: Stack, duration_s: float, rng: Random) -> None:
    name = stack.random_worker(rng)
    async with stack.exclusive(name):
        worker = stack.processes[name]
        await stack.terminate(worker)
        worker.command = worker_command(rng.choice(_JUMPS_S), rng.choice((0.0, _WORKER_START_S + duration_s)))
        await worker.start()
        try:
            await asyncio.sleep(_WORKER_START_S + 3 * duration_s)
            await stack.terminate(worker)
        finally:
            worker.command = worker_command()
        await worker.start()


async def _kill_web(stack: Stack, duration_s: float, rng: Random) -> None:
    del rng
    await _stop_and_restart(stack, "web", signal.SIGKILL, duration_s)


async def _replace_web(stack: Stack, duration_s: float, rng: Random) -> None:
    del duration_s, rng
    async with stack.exclusive("web"):
        await _deploy_web(stack)


async def _kill_valkey(stack: Stack, duration_s: float, rng: Random) -> None:
    del rng
    await _stop_and_restart(stack, "valkey", signal.SIGKILL, duration_s)


async def _restart_valkey(stack: Stack, duration_s: float, rng: Random) -> None:
    del rng
    await _stop_and_restart(stack, "valkey", signal.SIGTERM, duration_s)


async def _freeze_valkey(stack: Stack, duration_s: float, rng: Random) -> None:
    del rng
    await _freeze(stack, "valkey", duration_s)


async def _fill_disk(stack: Stack, duration_s: float, rng: Random) -> None:
    del rng
    async with stack.exclusive("valkey"):
        stack.fill_disk()
        try:
            await asyncio.sleep(duration_s)
        finally:
            stack.clear_disk()
        await asyncio.sleep(1.5)  # Valkey retries once a second; until it has written, it must not be killed


async def _restart_store(stack: Stack, duration_s: float, rng: Random) -> None:
    del rng
    await _stop_and_restart(stack, "postgres", signal.SIGINT, duration_s)


async def _kill_store(stack: Stack, duration_s: float, rng: Random) -> None:
    del rng
    # On SIGQUIT PostgreSQL exits at once, and recovers from its log.
    await _stop_and_restart(stack, "postgres", signal.SIGQUIT, duration_s)


async def _refuse_crm_calls(stack: Stack, duration_s: float, rng: Random) -> None:
    await _inject_fault(stack, Fault(status=503, share=rng.choice((0.5, 1.0))), duration_s)


async def _cut_crm_responses(stack: Stack, duration_s: float, rng: Random) -> None:
    await _inject_fault(stack, Fault(reset=True, after_effect=True, share=rng.choice((0.2, 0.7))), duration_s)


async def _limit_crm_calls(stack: Stack, duration_s: float, rng: Random) -> None:
    await _inject_fault(stack, Fault(status=429, share=0.7, retry_after=rng.choice((None, "1", "2"))), duration_s)


async def _slow_crm_calls(stack: Stack, duration_s: float, rng: Random) -> None:
    await _inject_fault(stack, Fault(share=rng.choice((0.3, 1.0)), latency=Latency(3000.0, 6000.0)), duration_s)


async def _skew_hubspot_clock(stack: Stack, duration_s: float, rng: Random) -> None:
    stack.sim.sender.clock_skew_ms = rng.choice(_HUBSPOT_SKEWS_MS)
    try:
        await asyncio.sleep(duration_s)
    finally:
        stack.sim.sender.clock_skew_ms = 0


async def _cut_links(stack: Stack, duration_s: float, rng: Random) -> None:
    links = rng.sample(list(stack.links.values()), 2)
    for _ in range(1 + round(duration_s)):
        for link in links:
            link.cut()
        await asyncio.sleep(rng.uniform(0.1, 0.6))


async def _slow_link(stack: Stack, duration_s: float, rng: Random) -> None:
    link = rng.choice(list(stack.links.values()))
    link.delay_s = rng.uniform(0.01, 0.4)
    try:
        await asyncio.sleep(duration_s)
    finally:
        link.resume()


async def _stall_link(stack: Stack, duration_s: float, rng: Random) -> None:
    link = rng.choice(list(stack.links.values()))
    link.stall()
    try:
        await asyncio.sleep(2 * duration_s)
    finally:
        link.resume()


async def _run_two_versions(stack: Stack, duration_s: float, rng: Random) -> None:
    name = stack.random_worker(rng)
    async with stack.exclusive(name, "web", "default queue", "bad events"):
        worker = stack.processes[name]
        await stack.terminate(worker)
        worker.cwd = stack.other_version
        await worker.start()
        try:
            await _deploy_web(stack, use_other=True)
            await asyncio.sleep(3 * duration_s)
            await _deploy_web(stack)
            await stack.terminate(worker)
        finally:
            worker.cwd = ROOT
        await worker.start()


async def _stop_and_restart(stack: Stack, name: str, number: signal.Signals, duration_s: float) -> None:
    """Stop a process with a signal, and start it again after `duration_s`."""
    async with stack.exclusive(name):
        process = stack.processes[name]
        if number is signal.SIGTERM:
            await stack.terminate(process)
        else:
            await process.stop(number)
        await asyncio.sleep(duration_s)
        await process.start()
        if name in stack.ports:
            await stack.wait_until_listening(stack.ports[name])


async def _freeze(stack: Stack, name: str, duration_s: float) -> None:
    async with stack.exclusive(name):
        stack.processes[name].send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(duration_s)
        finally:
            stack.processes[name].send_signal(signal.SIGCONT)


@asynccontextmanager
async def _active_fault(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    number = stack.sim.faults.add(fault)
    try:
        yield
    finally:
        stack.sim.faults.remove(number)


async def _inject_fault(stack: Stack, fault: Fault, duration_s: float) -> None:
    async with _active_fault(stack, fault):
        await asyncio.sleep(duration_s)


async def _deploy_web(stack: Stack, *, use_other: bool = False) -> None:
    """Replace the web process: start a new one, send it the traffic, then terminate the old one."""
    old, port = stack.web, free_port()
    new = stack.build_web(port)
    if use_other:
        new.cwd = stack.other_version
    stack.processes |= {"web": new, "web before": old}
    await new.start()
    await wait_until_ready(f"http://127.0.0.1:{port}")
    stack.ports["web"] = port
    await stack.terminate(old)
    del stack.processes["web before"]


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
    DisruptionKind.VALKEY_REPLACED: redis_server.fail_over,
    DisruptionKind.MEMORY_FULL: redis_server.fill_memory,
    DisruptionKind.CLIENTS_FULL: redis_server.exhaust_clients,
    DisruptionKind.BUSY_SCRIPT: redis_server.run_busy_script,
    DisruptionKind.NO_REPLICAS: redis_server.require_replicas,
    DisruptionKind.OTHER_APPLICATION: other_application.run_other_application,
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
    DisruptionKind.BAD_HANDLERS: bad_events.send_bad_events,
    DisruptionKind.POISON: bad_events.send_poison,
    DisruptionKind.TWO_VERSIONS: _run_two_versions,
    DisruptionKind.TOKENS_EXPIRED: oauth.expire_tokens,
    DisruptionKind.APP_REFUSED: oauth.refuse_app,
    DisruptionKind.REFRESH_KILLED: oauth.kill_during_refresh,
    DisruptionKind.REFRESH_FROZEN: oauth.freeze_during_refresh,
    DisruptionKind.STORE_GONE_AT_REFRESH: oauth.stop_store_during_refresh,
    DisruptionKind.APP_REMOVED: oauth.remove_app,
    DisruptionKind.CALLBACK_KILLED: oauth.kill_during_callback,
}
