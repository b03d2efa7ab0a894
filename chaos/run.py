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
from chaos.facts import Disturbance, Facts
from chaos.load import Load
from chaos.plan import Kind, Trouble, plan
from chaos.stack import PUBLIC, Busy, House
from spokes.core.settings import RECEIVER_PATH
from spokes.simulator.app import Simulator
from spokes.simulator.demo.people import People
from spokes.simulator.demo.scenario import config
from spokes.simulator.webhooks.retry_schedule import shortest_s

_SETTLES_S: Final = 150.0  # for all to be worked off when the last trouble is over, besides a last retry of HubSpot's
_LOOK_EVERY_S: Final = 0.5
_STILL: Final = 4  # looks in a row at which nothing was on its way: own writes come back as events
_MENDED_S: Final = 20.0  # after its time is over, a run has its last trouble mended


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. `per_s` is edits a second; `other` names the version that runs beside this one for a while.

    `kinds` are the kinds of trouble that come.
    """

    seed: int
    seconds: float
    workers: int
    per_s: float
    fsync: str
    other: str
    kinds: tuple[Kind, ...] = tuple(Kind)


Tell = Callable[[float, str, str], None]  # seconds gone, what is wrong, how far it is


async def run(options: Options, folder: Path, tell: Tell) -> Facts:
    """Run once in `folder`, tell how it goes, and return the facts.

    Raises:
        TimeoutError: something did not come up.
    """
    day = config(
        seed=options.seed,
        public_url=f"{PUBLIC}{RECEIVER_PATH}",
        connect_url="",
        token=f"pat-na1-{options.seed}-simulated",
        secret=f"{options.seed}-a-secret-for-one-run",
    )
    sender = replace(day.sender, linger_s=0.1, shuffle=True)
    day = replace(day, target=None, speed=speed(options.seconds, sender.max_retries), sender=sender)
    disturbances: list[Disturbance] = []
    async with Simulator(day) as sim:
        house = House(sim, folder, options.workers, fsync=options.fsync)
        await asyncio.to_thread(versions.unpack, house.other_version, options.other)
        async with house.opened():
            load = Load(
                sim, People(sim, Random(f"{options.seed} people")), Random(f"{options.seed} load"), options.per_s
            )
            await _burn(options, house, load, disturbances, tell)
            await _settle(house, load, options, tell)
            facts = await collect.collect(house, load, disturbances)
    return replace(
        facts,
        surprises=tuple(house.surprises),
        complaints=tuple(collect.complaints(folder)),
        still_running=tuple(collect.still_running(folder)),
    )


def speed(seconds: float, retries: int) -> float:
    """Return how fast HubSpot's time goes in a run that long: its patience just outlasts the troubles.

    Trouble follows trouble here; were its last retry to fall among them, it could give up, which no receiver can help.
    """
    return shortest_s(retries) / (seconds + _MENDED_S)


async def _burn(options: Options, house: House, load: Load, disturbances: list[Disturbance], tell: Tell) -> None:
    """Let people work and troubles come, until the time is over and every trouble is mended."""
    stop, began = asyncio.Event(), time.monotonic()
    going: set[str] = set()

    async def come(trouble: Trouble) -> None:
        await asyncio.sleep(trouble.at_s)
        going.add(trouble.kind)
        began_ms = time.time_ns() // 1_000_000
        try:
            await troubles.make(house, trouble)
        except Busy:
            return
        finally:
            going.discard(trouble.kind)
        disturbances.append(Disturbance(trouble.kind, began_ms, time.time_ns() // 1_000_000))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run(stop))
        coming = [tasks.create_task(come(trouble)) for trouble in plan(options.seed, options.seconds, options.kinds)]
        while (gone := time.monotonic() - began) < options.seconds or not all(task.done() for task in coming):
            tell(gone, "; ".join(sorted(going)) or "calm", _state(load))
            await asyncio.sleep(_LOOK_EVERY_S)
        stop.set()


async def _settle(house: House, load: Load, options: Options, tell: Tell) -> None:
    """Wait until all is worked off; what is not by then is for the facts to tell."""
    deadline, still = time.monotonic() + _SETTLES_S + options.seconds, 0
    while still < _STILL and time.monotonic() < deadline:
        still = still + 1 if await collect.worked_off(house) else 0
        tell(options.seconds, "working off", _state(load))
        await asyncio.sleep(_LOOK_EVERY_S)


def _state(load: Load) -> str:
    counts = load.sim.deliveries.counts
    return f"{load.edits} edits, {sum(counts.values())} events, {load.sim.requests.total} CRM calls"
