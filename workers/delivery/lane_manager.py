"""Begin deliveries: lanes are taken, and all that must be known is read, in one call for all that begin together.

Rule: an event enters its lane only with its delivery's answer, and whoever enters a lane finds all others there. That
goes for those too who waited for the lane while another process had it: they enter with the first of them.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.group_commit import Together
from spokes.core.redis.outage import Patience
from workers.delivery.delivery_run import Run
from workers.delivery.lanes import Lane, Work, by_lane, lane_key, slot

LEASE_MS: Final = 7_000  # a dead worker's lanes are free again after this; the heartbeat renews those of the living
_SCRIPT: Final = (Path(__file__).parent / "acquire_lanes.lua").read_text()
_MOST: Final = 200  # events, from which a call takes no further delivery


# What is asked of one lane: its key, for which works, the newest marks of which names, and whether it was ours already.
_Hope: TypeAlias = tuple[str, list[Work], tuple[str, ...], bool]


class _Asked(NamedTuple):
    """What was asked for one delivery."""

    run: Run
    hopes: list[_Hope]
    echoes: list[Work]  # one for each echo key


class Beginning:
    """The lanes that one worker process holds, and how they fill."""

    def __init__(self, redis: Redis, holder: str, patience: Patience, ready: Callable[[Lane], None]) -> None:
        """Hold lanes in the name of `holder`, which no other process shares; `ready` is told of each new lane.

        `seen_ms` is when we last looked, by Redis' clock in epoch ms: what happened at HubSpot before is in what a
        handler reads from now on.
        """
        self.held: dict[str, Lane] = {}
        self.seen_ms = 0
        self._script = redis.register_script(_SCRIPT)
        self._holder = holder
        self._ready = ready
        self._calls = 0
        self._hoping: dict[str, list[Work]] = {}  # by lane: who waits because another process has it
        self._token = f"{holder}:0"  # a call's own, and the same when it is repeated: its lanes may be ours already
        self._together: Together[tuple[Run, list[Work]], list[Work]] = Together(
            self._carry_out, patience, most=_MOST, weigh=lambda ask: len(ask[1])
        )

    async def enter(self, run: Run, works: list[Work]) -> list[Work]:
        """Let works into their lanes; return those whose object is being worked on elsewhere.

        Works that have got in meanwhile, together with others of their object, are left alone.
        """
        return await self._together.ask((run, works))

    def give_up(self, works: Iterable[Work]) -> list[Work]:
        """Return those that are still to be let in, which they are not any more."""
        left = [work for work in works if work.hopes]
        for work in left:
            work.hopes = False
            self._hoping.pop(_lane_of(work), None)  # others who hope for it say so when they ask again
        return left

    async def _carry_out(self, asks: list[tuple[Run, list[Work]]]) -> list[list[Work]]:
        wanted = [(run, [work for work in works if work.hopes]) for run, works in asks]
        busy = await self._take([*wanted, *self._company(wanted)])
        for works in busy:
            for work in works:
                self._hoping.setdefault(_lane_of(work), []).append(work)
        return busy[: len(asks)]

    def _company(self, asks: list[tuple[Run, list[Work]]]) -> Iterable[tuple[Run, list[Work]]]:
        """Return by run who hopes for the same lanes: their changes are then run as one."""
        if not self._hoping:
            return ()
        asking = {work for _, works in asks for work in works}
        found: dict[Run, list[Work]] = {}
        for lane in {_lane_of(work) for work in asking}:
            for work in self._hoping.pop(lane, ()):
                if work.hopes and work not in asking:
                    found.setdefault(work.run, []).append(work)
        return found.items()

    async def _take(self, asks: list[tuple[Run, list[Work]]]) -> list[list[Work]]:
        until = time.monotonic() + LEASE_MS / 1000
        words: list[str | int] = [LEASE_MS, self._token]
        asked = [self._ask(words, run, works) for run, works in asks]
        self.seen_ms, *answers = await self._script(args=words)
        taken: list[Lane] = []
        busy = [self._let_in(one, answer, taken, until) for one, answer in zip(asked, answers, strict=True)]
        self._calls += 1
        self._token = f"{self._holder}:{self._calls}"
        for lane in taken:
            self._ready(lane)
        return busy

    def _ask(self, words: list[str | int], run: Run, works: list[Work]) -> _Asked:
        delivery_id, portal_id = run.delivery.id, run.delivery.portal_id
        words += (keys.settled(portal_id, delivery_id), keys.merges(portal_id), *keys.starts(portal_id))
        echoes = [work for work in works for _ in work.echo_keys]
        words.append(len(echoes))
        for work in works:
            words += work.echo_keys
        hopes: list[_Hope] = []
        lanes = by_lane(works)
        words.append(len(lanes))
        for key, group in lanes.items():
            event, lane = group[0].event, self.held.get(key)
            names = tuple({name for work in group if (name := slot(work.event))})
            hopes.append((key, group, names, lane is not None))
            object_id = event.survivor_id or group[0].entry.key
            words += (event.object_type, object_id, lane.token if lane else "", len(names), *names)
        return _Asked(run, hopes, echoes)

    def _let_in(self, asked: _Asked, answer: list[Any], taken: list[Lane], until: float) -> list[Work]:
        settled, echoes, objects = answer
        for work, stands in zip(asked.echoes, echoes, strict=True):
            work.is_echo = work.is_echo or stands == 1
        done = {key.decode() for key in settled}
        out: list[Work] = []
        for (key, group, names, held), told in zip(asked.hopes, objects, strict=True):
            hoping = [work for work in group if work.hopes]  # others gave up, or got in, while we asked
            works = [work for work in hoping if work.entry.key not in done]
            for work in hoping:
                work.hopes = work.entry.key not in done
            asked.run.drop(len(hoping) - len(works))
            lane = self.held.get(key)
            if isinstance(told, bytes):
                out += (retargeted(work, told.decode()) for work in works)
            elif told == 0 or (lane is None and held):  # given back while we asked
                out += works
            else:
                if lane is None:
                    lane = self.held[key] = Lane(key, self._token, until)
                    taken.append(lane)
                for work in works:
                    work.hopes = False
                lane.waiting += works
                for name, at in zip(names, told, strict=True):
                    if at is not None:
                        lane.newest[name] = max(int(at), lane.newest.get(name, 0))
        return out


def _lane_of(work: Work) -> str:
    return lane_key(work.event, work.entry.key)


def retargeted(work: Work, object_id: str) -> Work:
    """Turn a work to the record that its object lives on as; the value it told was another record's."""
    raw, event = work.event.raw, work.event
    field = {"merge": "newObjectId", "associationChange": "fromObjectId"}.get(event.kind, "objectId")
    work.merged_from = work.merged_from or event.survivor_id
    work.event = Event({**raw, field: int(object_id), **({"propertyValue": ""} if "propertyValue" in raw else {})})
    return work
