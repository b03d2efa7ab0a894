"""Acquire the lanes of deliveries, and read what must be known before their events run, in one script call.

An item enters its lane only with its delivery's answer, and all items of one object that wait in this process enter
together: an item of a running lane finds every other item there. Items that waited for another process' lane enter with
the first of them that acquires it.
"""

import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.outage import RedisOutage
from spokes.core.redis.scripts import ARGUMENTS, FALSE_LEASE, read_script
from workers.lanes.lane_pool import ReadyLanes
from workers.lanes.lanes import Lane, OwningRun, WorkItem, group_by_lane
from workers.queue.leases import lane_key

if TYPE_CHECKING:
    import asyncio

LEASE_MS: Final = 7_000  # the lanes of a dead worker are free after this; live workers renew theirs
_SCRIPT: Final = FALSE_LEASE + ARGUMENTS + read_script(__file__, "surviving_id.lua", "acquire_lanes.lua")
_WRONG_TYPE: Final = -1  # the script's answer for an object with a key of another type
_MAX_EVENTS: Final = 200  # a call with this many takes no further delivery: the worker is idle until Redis answers


# What is requested for one lane: key, items, their ordering keys, and whether we held the lane before.
_LaneRequest: TypeAlias = tuple[str, list[WorkItem], tuple[str, ...], bool]


class _DeliveryRequest(NamedTuple):
    """What is requested for one delivery; `echo_items` holds an item once per echo key."""

    run: OwningRun
    lanes: list[_LaneRequest]
    echo_items: list[WorkItem]


class LaneManager:
    """The lanes that this worker process holds."""

    def __init__(
        self, redis: Redis, holder: str, outage: RedisOutage, ready: ReadyLanes,
        fail_item: Callable[[WorkItem, Exception], None],
    ) -> None:  # fmt: skip
        """Hold lanes as `holder`, a name that no other process has, and put each new lane into `ready`.

        `fail_item` resolves an item whose object has a key that holds another type of value.

        `redis_time_ms` is the time of the latest call, by Redis' clock in epoch ms: what happened at HubSpot before it
        is in what handlers read from now on.
        """
        self.held: dict[str, Lane] = {}
        self.redis_time_ms = 0
        self._script = redis.register_script(_SCRIPT)
        self._holder = holder
        self._ready = ready
        self._fail_item = fail_item
        self._call_count = 0
        self._waiting: dict[str, list[WorkItem]] = {}  # by lane: items that wait because another process holds it
        # Each call has its own token, and keeps it when it is repeated: the first try may have acquired the lanes.
        self._token = f"{holder}:0"
        self._group_commit: GroupCommit[tuple[OwningRun, list[WorkItem]], list[WorkItem]] = GroupCommit(
            self._commit, max_weight=_MAX_EVENTS, weight=lambda request: len(request[1]), outage=outage, name="lanes"
        )

    def acquire(self, run: OwningRun, items: list[WorkItem]) -> "asyncio.Future[list[WorkItem]]":
        """Put items into their lanes; the result is those whose lane another process holds.

        Items that have entered a lane in the meantime, together with others of their object, are ignored.
        """
        return self._group_commit.submit((run, items))

    def cancel_waiting(self, items: Iterable[WorkItem]) -> list[WorkItem]:
        """Stop waiting for the lanes of these items; return those that have not entered theirs."""
        waiting = [item for item in items if item.awaits_lane]
        for item in waiting:
            item.awaits_lane = False
            self._waiting.pop(_lane_key_of(item), None)  # other items are added again by their next `acquire`
        return waiting

    def put_ready(self, lane: Lane) -> None:
        """Have a lane that we hold run in another task."""
        self._ready.put([lane])

    async def _commit(self, requests: list[tuple[OwningRun, list[WorkItem]]]) -> list[list[WorkItem]]:
        wanted = [(run, [item for item in items if item.awaits_lane]) for run, items in requests]
        busy = await self._call_script([*wanted, *self._same_lane_items(wanted)])
        for items in busy:
            for item in items:
                self._waiting.setdefault(_lane_key_of(item), []).append(item)
        return busy[: len(requests)]

    def _same_lane_items(
        self, requests: list[tuple[OwningRun, list[WorkItem]]]
    ) -> Iterable[tuple[OwningRun, list[WorkItem]]]:
        """Return by run the other items that wait for the requested lanes, so that their changes are coalesced."""
        if not self._waiting:
            return ()
        requested = {item for _, items in requests for item in items}
        others: dict[OwningRun, list[WorkItem]] = {}
        for lane in {_lane_key_of(item) for item in requested}:
            for item in self._waiting.pop(lane, ()):
                if item.awaits_lane and item not in requested:
                    others.setdefault(item.delivery_run, []).append(item)
        return others.items()

    async def _call_script(self, requests: list[tuple[OwningRun, list[WorkItem]]]) -> list[list[WorkItem]]:
        lease_until = time.monotonic() + LEASE_MS / 1000
        args: list[str | int] = [LEASE_MS, self._token]
        delivery_requests = [self._add_args(args, run, items) for run, items in requests]
        self.redis_time_ms, *answers = await self._script(args=args)
        acquired: list[Lane] = []
        busy = [
            self._apply_answer(request, answer, acquired, lease_until)
            for request, answer in zip(delivery_requests, answers, strict=True)
        ]
        self._call_count += 1
        self._token = f"{self._holder}:{self._call_count}"
        self._ready.put(acquired)  # only now: every item of the call is in its lane
        return busy

    def _add_args(self, args: list[str | int], run: OwningRun, items: list[WorkItem]) -> _DeliveryRequest:
        delivery_id, portal_id = run.delivery.id, run.delivery.portal_id
        echo_items = [item for item in items for _ in item.echo_keys]
        args += (keys.portal_prefix(portal_id), keys.settled_events(portal_id, delivery_id), len(echo_items))
        verdicts: list[str | int] = []
        first = 1
        for item in items if echo_items else ():
            args += item.echo_keys
            if item.handler and item.echo_keys:
                verdicts += (keys.echo_verdict(portal_id, item.entry.event_key), first, len(item.echo_keys))
            first += len(item.echo_keys)
        args += (len(verdicts) // 3, *verdicts)
        requests: list[_LaneRequest] = []
        alike: list[tuple[tuple[str, str, tuple[str, ...]], list[str]]] = []  # object ids by what they share
        for key, group in group_by_lane(items).items():
            event, lane = group[0].event, self.held.get(key)
            names = _ordering_keys(group)
            requests.append((key, group, names, lane is not None))
            shared = (event.object_type, lane.token if lane else "", names)
            if not alike or alike[-1][0] != shared:
                alike.append((shared, []))
            alike[-1][1].append(event.survivor_id or group[0].entry.key)
        args.append(len(alike))
        for (object_type, token, names), object_ids in alike:
            args += (object_type, token, len(names), *names, len(object_ids), *object_ids)
        return _DeliveryRequest(run, requests, echo_items)

    def _apply_answer(
        self, request: _DeliveryRequest, answer: list[Any], acquired: list[Lane], lease_until: float
    ) -> list[WorkItem]:
        settled_keys, echoes, lane_answers = answer
        delivery = request.run.delivery
        for item, exists in zip(request.echo_items, echoes, strict=True):
            item.is_echo = item.is_echo or exists == 1
        settled: Collection[str] = {key.decode() for key in settled_keys} if settled_keys else ()
        busy: list[WorkItem] = []
        for (key, group, names, was_held), lane_answer in zip(request.lanes, lane_answers, strict=True):
            items = [item for item in group if item.awaits_lane]  # others were cancelled or entered during the call
            if settled:
                items = _unsettled(request.run, items, settled)
            lane = self.held.get(key)
            if lane_answer == _WRONG_TYPE:
                self._fail_items(items)
            elif isinstance(lane_answer, bytes):
                busy += (retarget(item, lane_answer.decode()) for item in items)
            elif lane_answer == 0 or (lane is None and was_held):  # released during the call
                busy += items
            else:
                if lane is None:
                    lane = Lane(key, self._token, lease_until, priority=delivery.priority, portal_id=delivery.portal_id)
                    self.held[key] = lane
                    acquired.append(lane)
                elif lane.priority == "import" and delivery.priority == "interactive" and items:
                    self._ready.promote(lane)
                for item in items:
                    item.awaits_lane = False
                lane.items += items
                if names:
                    lane.advance({name: int(at) for name, at in zip(names, lane_answer, strict=True) if at is not None})
        return busy

    def _fail_items(self, items: list[WorkItem]) -> None:
        for item in items:
            item.awaits_lane = False
            self._fail_item(item, ResponseError("WRONGTYPE: a key of the object holds another type of value"))


def _unsettled(run: OwningRun, items: list[WorkItem], settled: Collection[str]) -> list[WorkItem]:
    """Return the items that no earlier run settled; the others leave the run without a lane."""
    unsettled = [item for item in items if not run.is_settled(item, settled)]
    for item in items:
        item.awaits_lane = item in unsettled
    run.skip_settled(len(items) - len(unsettled))
    return unsettled


def _ordering_keys(items: list[WorkItem]) -> tuple[str, ...]:
    """Return the ordering keys of the items of one lane, each once."""
    if len(items) == 1:  # as a rule
        return (name,) if (name := items[0].ordering_key) else ()
    return tuple({name for item in items if (name := item.ordering_key)})


def _lane_key_of(item: WorkItem) -> str:
    return lane_key(item.event, item.entry.key)


def retarget(item: WorkItem, object_id: str) -> WorkItem:
    """Point an item at the record that its object was merged into; the event's value belonged to the merged record."""
    raw, event = item.event.raw, item.event
    field = {"merge": "newObjectId", "associationChange": "fromObjectId"}.get(event.kind, "objectId")
    item.merged_from = item.merged_from or event.survivor_id
    item.event = Event({**raw, field: int(object_id), **({"propertyValue": ""} if "propertyValue" in raw else {})})
    item.event.intake = event.intake
    return item
