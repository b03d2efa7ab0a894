"""workers.lanes.lane_pool: how many tasks run the ready lanes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from workers.lanes.lane_pool import LanePool, ReadyLanes
from workers.lanes.lanes import Lane


class Work:
    """A pool of two tasks by default, and the lanes that it ran.

    Lanes whose key begins with "slow" wait for `go_on`; those whose key begins with "held" do not end.
    """

    def __init__(self, max_tasks: int = 2) -> None:
        self.ready = ReadyLanes()
        self.awaited = 0
        self.pool = LanePool(self.ready, max_tasks=max_tasks, awaited=lambda: self.awaited)
        self.started: list[str] = []
        self.tasks: set[asyncio.Task[None] | None] = set()
        self.go_on = asyncio.Event()

    async def work_lane(self, lane: Lane) -> None:
        self.started.append(lane.key)
        self.tasks.add(asyncio.current_task())
        if lane.key.startswith("slow"):
            await self.go_on.wait()
        elif lane.key.startswith("held"):
            await asyncio.Event().wait()

    async def put(self, *lane_keys: str) -> None:
        """Make lanes ready, and let the pool run."""
        self.ready.put(Lane(key, "token", 0.0) for key in lane_keys)
        await self.let_run()

    async def let_run(self) -> None:
        """Let the pool run."""
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    work = Work()
    work.pool.start(work.work_lane)
    yield work
    await work.pool.close()


@pytest.fixture
async def wide() -> AsyncIterator[Work]:
    """Return the same with a pool of 32 tasks."""
    work = Work(max_tasks=32)
    work.pool.start(work.work_lane)
    yield work
    await work.pool.close()


async def test_lanes_that_do_not_block_share_one_task(work: Work) -> None:
    await work.put("a", "b", "c")
    assert (work.started, len(work.tasks)) == (["a", "b", "c"], 1)


async def test_blocked_lane_does_not_hold_up_the_others(work: Work) -> None:
    await work.put("slow", "a", "b")
    assert (work.started, len(work.tasks)) == (["slow", "a", "b"], 2)


async def test_no_more_tasks_run_than_allowed(work: Work) -> None:
    await work.put("slow 1", "slow 2", "a")
    assert work.started == ["slow 1", "slow 2"]
    work.go_on.set()
    await work.put()
    assert work.started == ["slow 1", "slow 2", "a"]


async def test_tasks_that_wait_for_an_answer_do_not_count(work: Work) -> None:
    await work.put("slow 1", "slow 2", "a", "b")
    work.awaited = 2  # as the two tasks, whose batch was sent
    await work.put()
    assert work.started == ["slow 1", "slow 2", "a", "b"]


async def test_at_most_four_times_the_limit_wait_for_answers(work: Work) -> None:
    work.awaited = 1000
    await work.put(*(f"slow {number}" for number in range(30)))
    for _ in range(5):
        await work.put()
    assert work.pool.extra_tasks == 8
    assert len(work.started) == 10


async def test_tasks_that_end_together_leave_as_many_as_are_allowed_to_the_ready_lanes(wide: Work) -> None:
    wide.awaited = 10
    await wide.put(*(f"slow {number}" for number in range(20)), *(f"held {number}" for number in range(40)))
    for _ in range(10):
        await wide.let_run()
    assert len(wide.started) == 42
    wide.awaited = 0
    wide.go_on.set()
    await wide.let_run()  # the pool is not woken: no lane becomes ready
    assert len(wide.started) == 42 + 10


async def test_tasks_of_imports_do_not_count_against_interactive_lanes(work: Work) -> None:
    work.ready.put(Lane(f"slow import {number}", "token", 0.0, priority="import") for number in range(3))
    await work.let_run()
    await work.put("slow 1", "slow 2", "slow 3")
    assert work.started == ["slow import 0", "slow import 1", "slow 1", "slow 2"]


async def test_twice_as_many_tasks_start_at_a_time_while_lanes_block(wide: Work) -> None:
    await wide.put(*(f"held {number}" for number in range(40)))
    await wide.let_run()
    assert len(wide.started) == 32  # one at a time would have started ten


async def test_task_that_is_cancelled_before_its_first_step_does_not_stop_the_pool(work: Work) -> None:
    work.ready.put([Lane("a", "token", 0.0)])
    await asyncio.sleep(0)
    for task in work.pool._starting:
        task.cancel()
    await work.put("b")
    assert work.started == ["a", "b"]


async def test_lane_that_is_ready_later_is_run(work: Work) -> None:
    await work.put("a")
    await work.put("b")
    assert work.started == ["a", "b"]


async def test_closed_pool_starts_no_lane(work: Work) -> None:
    await work.pool.close()
    await work.put("a")
    assert work.started == []


async def test_interactive_lane_runs_before_ready_lanes_of_imports(work: Work) -> None:
    await work.put("slow 1", "slow 2")
    imports = [Lane(key, "token", 0.0, priority="import") for key in ("import 1", "import 2")]
    work.ready.put([*imports, Lane("interactive", "token", 0.0)])
    work.go_on.set()
    await work.put()
    assert work.started == ["slow 1", "slow 2", "import 1", "interactive", "import 2"]


async def test_import_lane_that_an_interactive_event_enters_runs_as_an_interactive_one(work: Work) -> None:
    await work.put("slow 1", "slow 2")
    lanes = [Lane(f"import {number}", "token", 0.0, priority="import") for number in range(3)]
    work.ready.put(lanes)
    work.ready.promote(lanes[2])
    work.go_on.set()
    await work.put()
    assert work.started[2:] == ["import 0", "import 2", "import 1"]


async def test_portals_take_turns_for_tasks(work: Work) -> None:
    await work.put("slow 1", "slow 2")
    first = [Lane(f"first {number}", "token", 0.0, portal_id=1) for number in range(3)]
    work.ready.put([*first, Lane("second", "token", 0.0, portal_id=2)])
    work.go_on.set()
    await work.put()
    assert work.started[2:] == ["first 0", "second", "first 1", "first 2"]


async def test_lane_of_another_portal_runs_although_one_portal_blocks_every_task(work: Work) -> None:
    await work.put("slow 1", "slow 2", "slow 3")
    work.ready.put([Lane("other", "token", 0.0, portal_id=2), Lane("another", "token", 0.0, portal_id=3)])
    await work.put()
    assert work.started == ["slow 1", "slow 2", "other", "another"]
    work.go_on.set()
    await work.put()
    assert work.started[4:] == ["slow 3"]


async def test_portals_together_run_at_most_twice_as_many_tasks(work: Work) -> None:
    await work.put("slow 1", "slow 2", "slow 3")
    work.ready.put(Lane(f"slow of {number}", "token", 0.0, portal_id=number) for number in range(1, 5))
    await work.put()
    assert work.started == ["slow 1", "slow 2", "slow of 1", "slow of 2"]
