"""One run: a stack under load, planned disruptions, and the facts after all events are processed. Seeded."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

from chaos import collect
from chaos.disruptions.actions import run_disruption
from chaos.facts import Facts, ObservedDisruption
from chaos.load import EditLoad
from chaos.oauth.portals import LIFETIME_S
from chaos.plan import Disruption, DisruptionKind, plan
from chaos.previous_version import unpack_revision
from chaos.stack import PUBLIC_URL, ProcessBusy, Stack
from spokes.core import clock
from spokes.core.settings import RECEIVER_PATH
from spokes.simulator.app import Simulator
from spokes.simulator.config import OAuthConfig
from spokes.simulator.demo.people import People
from spokes.simulator.demo.scenario import demo_config
from spokes.simulator.webhooks.retry_schedule import shortest_s

_DRAIN_TIMEOUT_S: Final = 150.0  # after the last disruption, in addition to the duration of the run
_POLL_S: Final = 0.5
_QUIET_POLLS: Final = 4  # consecutive polls without a pending event: our own writes cause events too
_RECOVERY_S: Final = 20.0  # after the end of the run, until the last disruption is undone


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run. `other_revision` is the git revision that runs together with this one for a while.

    `kinds` are the kinds of disruption to apply, `redis_server` is the server's binary if it is not Valkey's.
    """

    seed: int
    seconds: float
    workers: int
    edits_per_s: float
    fsync: str
    other_revision: str
    kinds: tuple[DisruptionKind, ...] = tuple(DisruptionKind)
    redis_server: str | None = None


ProgressReport = Callable[[float, str, str], None]  # seconds elapsed, active disruptions, counts


async def run(options: Options, folder: Path, report: ProgressReport) -> Facts:
    """Run once in `folder`, report progress, and return the facts.

    Raises:
        TimeoutError: a process did not start in time.
    """
    config = demo_config(
        seed=options.seed,
        public_url=f"{PUBLIC_URL}{RECEIVER_PATH}",
        connect_url="",
        token=f"pat-na1-{options.seed}-simulated",
        secret=f"{options.seed}-a-secret-for-one-run",
    )
    sender = replace(config.sender, linger_s=0.1, shuffle=True)
    speed = simulator_speed(options.seconds, sender.max_retries)
    oauth = OAuthConfig(
        access_token_s=LIFETIME_S * speed, rotates_refresh_tokens=True, keeps_previous_refresh_token=True
    )
    config = replace(config, target=None, speed=speed, sender=sender, oauth=oauth)
    observed: list[ObservedDisruption] = []
    async with Simulator(config) as sim:
        stack = Stack(sim, folder, options.workers, fsync=options.fsync, redis_server=options.redis_server)
        await asyncio.to_thread(unpack_revision, stack.other_version, options.other_revision)
        async with stack.running():
            load = EditLoad(
                sim, People(sim, Random(f"{options.seed} people")), Random(f"{options.seed} load"), options.edits_per_s
            )
            await _run_disruptions(options, stack, load, observed, report)
            await _wait_until_drained(stack, load, options, report)
            ends = (ObservedDisruption(DisruptionKind.POISON, at_ms, at_ms) for at_ms in stack.worker_ends_ms)
            facts = await collect.collect(stack, load, [*observed, *ends])
    return replace(
        facts,
        unexpected_exits=tuple(stack.unexpected_exits),
        log_errors=tuple(collect.find_log_errors(folder)),
        still_running=tuple(collect.still_running(folder)),
    )


def simulator_speed(seconds: float, retries: int) -> float:
    """Return the speed of HubSpot's clock for a run of `seconds`: its last retry comes just after all disruptions.

    Disruptions follow each other closely. If HubSpot's last retry fell among them, HubSpot could lose an event through
    no fault of the receiver.
    """
    return shortest_s(retries) / (seconds + _RECOVERY_S)


async def _run_disruptions(
    options: Options, stack: Stack, load: EditLoad, observed: list[ObservedDisruption], report: ProgressReport
) -> None:
    """Make edits and apply the planned disruptions, until the time is over and every disruption is undone."""
    stop, began = asyncio.Event(), time.monotonic()
    active: set[str] = set()

    async def apply(disruption: Disruption) -> None:
        await asyncio.sleep(disruption.starts_at_s)
        active.add(disruption.kind)
        began_ms = clock.now_ms()
        try:
            await run_disruption(stack, disruption)
        except ProcessBusy:
            return
        finally:
            active.discard(disruption.kind)
        observed.append(ObservedDisruption(disruption.kind, began_ms, clock.now_ms()))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run(stop))
        tasks.create_task(stack.portals.run(stop))
        applying = [
            tasks.create_task(apply(disruption)) for disruption in plan(options.seed, options.seconds, options.kinds)
        ]
        while (elapsed_s := time.monotonic() - began) < options.seconds or not all(task.done() for task in applying):
            report(elapsed_s, "; ".join(sorted(active)) or "none", _progress_text(load))
            await asyncio.sleep(_POLL_S)
        stop.set()


async def _wait_until_drained(stack: Stack, load: EditLoad, options: Options, report: ProgressReport) -> None:
    """Wait until no event is pending, or for a bounded time; the facts list the events still pending."""
    deadline, quiet_polls = time.monotonic() + _DRAIN_TIMEOUT_S + options.seconds, 0
    while quiet_polls < _QUIET_POLLS and time.monotonic() < deadline:
        quiet_polls = quiet_polls + 1 if await collect.is_drained(stack) else 0
        report(options.seconds, "draining", _progress_text(load))
        await asyncio.sleep(_POLL_S)


def _progress_text(load: EditLoad) -> str:
    counts = load.sim.deliveries.counts
    return f"{load.edits} edits, {sum(counts.values())} events, {load.sim.requests.total} CRM calls"
