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
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.outage import RedisOutage
from workers.delivery.delivery_run import DeliveryRun
from workers.delivery.lanes import Lane, WorkItem, group_by_lane, lane_key, ordering_key

LEASE_MS: Final = 7_000  # a dead worker's lanes are free again after this; the heartbeat renews those of the living
_SCRIPT: Final = (Path(__file__).parent / "acquire_lanes.lua").read_text()
_MAX_EVENTS: Final = 200  # events, from which a call takes no further delivery


# What is asked of one lane: its key, for which works, the newest marks of which names, and whether it was ours already.
_LaneRequest: TypeAlias = tuple[str, list[WorkItem], tuple[str, ...], bool]


class _DeliveryRequest(NamedTuple):
    """What was asked for one delivery."""

    run: DeliveryRun
    lanes: list[_LaneRequest]
    echo_items: list[WorkItem]  # one for each echo key


class LaneManager:
    """The lanes that one worker process holds, and how they fill."""

    def __init__(self, redis: Redis, holder: str, outage: RedisOutage, ready: Callable[[Lane], None]) -> None:
        """Hold lanes in the name of `holder`, which no other process shares; `ready` is told of each new lane.

        `seen_ms` is when we last looked, by Redis' clock in epoch ms: what happened at HubSpot before is in what a
        handler reads from now on.
        """
        self.held: dict[str, Lane] = {}
        self.redis_time_ms = 0
        self._script = redis.register_script(_SCRIPT)
        self._holder = holder
        self._ready = ready
        self._call_count = 0
        self._waiting: dict[str, list[WorkItem]] = {}  # by lane: who waits because another process has it
        self._token = f"{holder}:0"  # a call's own, and the same when it is repeated: its lanes may be ours already
        self._group_commit: GroupCommit[tuple[DeliveryRun, list[WorkItem]], list[WorkItem]] = GroupCommit(
            self._commit, max_weight=_MAX_EVENTS, weight=lambda request: len(request[1]), outage=outage
        )

    async def acquire(self, run: DeliveryRun, items: list[WorkItem]) -> list[WorkItem]:
        """Let works into their lanes; return those whose object is being worked on elsewhere.

        Works that have got in meanwhile, together with others of their object, are left alone.
        """
        return await self._group_commit.submit((run, items))

    def cancel_waiting(self, items: Iterable[WorkItem]) -> list[WorkItem]:
        """Return those that are still to be let in, which they are not any more."""
        left = [work for work in items if work.awaits_lane]
        for work in left:
            work.awaits_lane = False
            self._waiting.pop(_lane_key_of(work), None)  # others who hope for it say so when they ask again
        return left

    async def _commit(self, asks: list[tuple[DeliveryRun, list[WorkItem]]]) -> list[list[WorkItem]]:
        wanted = [(run, [work for work in works if work.awaits_lane]) for run, works in asks]
        busy = await self._call_script([*wanted, *self._same_lane_items(wanted)])
        for works in busy:
            for work in works:
                self._waiting.setdefault(_lane_key_of(work), []).append(work)
        return busy[: len(asks)]

    def _same_lane_items(
        self, asks: list[tuple[DeliveryRun, list[WorkItem]]]
    ) -> Iterable[tuple[DeliveryRun, list[WorkItem]]]:
        """Return by run who hopes for the same lanes: their changes are then run as one."""
        if not self._waiting:
            return ()
        asking = {work for _, works in asks for work in works}
        found: dict[DeliveryRun, list[WorkItem]] = {}
        for lane in {_lane_key_of(work) for work in asking}:
            for work in self._waiting.pop(lane, ()):
                if work.awaits_lane and work not in asking:
                    found.setdefault(work.delivery_run, []).append(work)
        return found.items()

    async def _call_script(self, asks: list[tuple[DeliveryRun, list[WorkItem]]]) -> list[list[WorkItem]]:
        until = time.monotonic() + LEASE_MS / 1000
        words: list[str | int] = [LEASE_MS, self._token]
        asked = [self._add_args(words, run, works) for run, works in asks]
        self.redis_time_ms, *answers = await self._script(args=words)
        taken: list[Lane] = []
        busy = [self._apply_answer(one, answer, taken, until) for one, answer in zip(asked, answers, strict=True)]
        self._call_count += 1
        self._token = f"{self._holder}:{self._call_count}"
        for lane in taken:
            self._ready(lane)
        return busy

    def _add_args(self, words: list[str | int], run: DeliveryRun, works: list[WorkItem]) -> _DeliveryRequest:
        delivery_id, portal_id = run.delivery.id, run.delivery.portal_id
        words += (
            keys.settled_events(portal_id, delivery_id),
            keys.has_merges(portal_id),
            *keys.portal_prefixes(portal_id),
        )
        echoes = [work for work in works for _ in work.echo_keys]
        words.append(len(echoes))
        for work in works:
            words += work.echo_keys
        hopes: list[_LaneRequest] = []
        lanes = group_by_lane(works)
        words.append(len(lanes))
        for key, group in lanes.items():
            event, lane = group[0].event, self.held.get(key)
            names = tuple({name for work in group if (name := ordering_key(work.event))})
            hopes.append((key, group, names, lane is not None))
            object_id = event.survivor_id or group[0].entry.key
            words += (event.object_type, object_id, lane.token if lane else "", len(names), *names)
        return _DeliveryRequest(run, hopes, echoes)

    def _apply_answer(
        self, asked: _DeliveryRequest, answer: list[Any], taken: list[Lane], until: float
    ) -> list[WorkItem]:
        settled, echoes, objects = answer
        for work, stands in zip(asked.echo_items, echoes, strict=True):
            work.is_echo = work.is_echo or stands == 1
        done = {key.decode() for key in settled}
        out: list[WorkItem] = []
        for (key, group, names, held), told in zip(asked.lanes, objects, strict=True):
            hoping = [work for work in group if work.awaits_lane]  # others gave up, or got in, while we asked
            works = [work for work in hoping if work.entry.key not in done]
            for work in hoping:
                work.awaits_lane = work.entry.key not in done
            asked.run.skip_settled(len(hoping) - len(works))
            lane = self.held.get(key)
            if isinstance(told, bytes):
                out += (retarget(work, told.decode()) for work in works)
            elif told == 0 or (lane is None and held):  # given back while we asked
                out += works
            else:
                if lane is None:
                    lane = self.held[key] = Lane(key, self._token, until)
                    taken.append(lane)
                for work in works:
                    work.awaits_lane = False
                lane.items += works
                for name, at in zip(names, told, strict=True):
                    if at is not None:
                        lane.newest_applied[name] = max(int(at), lane.newest_applied.get(name, 0))
        return out


def _lane_key_of(work: WorkItem) -> str:
    return lane_key(work.event, work.entry.key)


def retarget(item: WorkItem, object_id: str) -> WorkItem:
    """Turn a work to the record that its object lives on as; the value it told was another record's."""
    raw, event = item.event.raw, item.event
    field = {"merge": "newObjectId", "associationChange": "fromObjectId"}.get(event.kind, "objectId")
    item.merged_from = item.merged_from or event.survivor_id
    item.event = Event({**raw, field: int(object_id), **({"propertyValue": ""} if "propertyValue" in raw else {})})
    return item
