"""One run: a house under load, a plan of troubles, the facts when the dust has settled. Rule: seeded, and bounded."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

from chaos import collect
from chaos import disruptions as troubles
from chaos import previous_version as versions
from chaos.facts import Facts, ObservedDisruption
from chaos.load import EditLoad
from chaos.plan import Disruption, DisruptionKind, plan
from chaos.stack import PUBLIC_URL, ProcessBusy, Stack
from spokes.core import clock
from spokes.core.settings import RECEIVER_PATH
from spokes.simulator.app import Simulator
from spokes.simulator.demo.people import People
from spokes.simulator.demo.scenario import demo_config
from spokes.simulator.webhooks.retry_schedule import shortest_s

_DRAIN_TIMEOUT_S: Final = (
    150.0  # for all to be worked off when the last trouble is over, besides a last retry of HubSpot's
)
_POLL_S: Final = 0.5
_QUIET_POLLS: Final = 4  # looks in a row at which nothing was on its way: own writes come back as events
_RECOVERY_S: Final = 20.0  # after its time is over, a run has its last trouble mended


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. `per_s` is edits a second; `other` names the version that runs beside this one for a while.

    `kinds` are the kinds of trouble that come.
    """

    seed: int
    seconds: float
    workers: int
    edits_per_s: float
    fsync: str
    other_revision: str
    kinds: tuple[DisruptionKind, ...] = tuple(DisruptionKind)


ProgressReport = Callable[[float, str, str], None]  # seconds gone, what is wrong, how far it is


async def run(options: Options, folder: Path, tell: ProgressReport) -> Facts:
    """Run once in `folder`, tell how it goes, and return the facts.

    Raises:
        TimeoutError: something did not come up.
    """
    day = demo_config(
        seed=options.seed,
        public_url=f"{PUBLIC_URL}{RECEIVER_PATH}",
        connect_url="",
        token=f"pat-na1-{options.seed}-simulated",
        secret=f"{options.seed}-a-secret-for-one-run",
    )
    sender = replace(day.sender, linger_s=0.1, shuffle=True)
    day = replace(day, target=None, speed=simulator_speed(options.seconds, sender.max_retries), sender=sender)
    disturbances: list[ObservedDisruption] = []
    async with Simulator(day) as sim:
        house = Stack(sim, folder, options.workers, fsync=options.fsync)
        await asyncio.to_thread(versions.unpack_revision, house.other_version, options.other_revision)
        async with house.running():
            load = EditLoad(
                sim, People(sim, Random(f"{options.seed} people")), Random(f"{options.seed} load"), options.edits_per_s
            )
            await _run_disruptions(options, house, load, disturbances, tell)
            await _wait_until_drained(house, load, options, tell)
            facts = await collect.collect(house, load, disturbances)
    return replace(
        facts,
        unexpected_exits=tuple(house.unexpected_exits),
        log_errors=tuple(collect.find_log_errors(folder)),
        still_running=tuple(collect.still_running(folder)),
    )


def simulator_speed(seconds: float, retries: int) -> float:
    """Return how fast HubSpot's time goes in a run that long: its patience just outlasts the troubles.

    Trouble follows trouble here; were its last retry to fall among them, it could give up, which no receiver can help.
    """
    return shortest_s(retries) / (seconds + _RECOVERY_S)


async def _run_disruptions(
    options: Options, house: Stack, load: EditLoad, disturbances: list[ObservedDisruption], tell: ProgressReport
) -> None:
    """Let people work and troubles come, until the time is over and every trouble is mended."""
    stop, began = asyncio.Event(), time.monotonic()
    going: set[str] = set()

    async def come(trouble: Disruption) -> None:
        await asyncio.sleep(trouble.starts_at_s)
        going.add(trouble.kind)
        began_ms = clock.now_ms()
        try:
            await troubles.run_disruption(house, trouble)
        except ProcessBusy:
            return
        finally:
            going.discard(trouble.kind)
        disturbances.append(ObservedDisruption(trouble.kind, began_ms, clock.now_ms()))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run(stop))
        coming = [tasks.create_task(come(trouble)) for trouble in plan(options.seed, options.seconds, options.kinds)]
        while (gone := time.monotonic() - began) < options.seconds or not all(task.done() for task in coming):
            tell(gone, "; ".join(sorted(going)) or "calm", _progress_text(load))
            await asyncio.sleep(_POLL_S)
        stop.set()


async def _wait_until_drained(house: Stack, load: EditLoad, options: Options, tell: ProgressReport) -> None:
    """Wait until all is worked off; what is not by then is for the facts to tell."""
    deadline, still = time.monotonic() + _DRAIN_TIMEOUT_S + options.seconds, 0
    while still < _QUIET_POLLS and time.monotonic() < deadline:
        still = still + 1 if await collect.is_drained(house) else 0
        tell(options.seconds, "working off", _progress_text(load))
        await asyncio.sleep(_POLL_S)


def _progress_text(load: EditLoad) -> str:
    counts = load.sim.deliveries.counts
    return f"{load.edits} edits, {sum(counts.values())} events, {load.sim.requests.total} CRM calls"
