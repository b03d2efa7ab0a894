"""workers.queue.room, held_by_portal and lane_pool.next_class: what each class and portal may use. Pure."""

from hypothesis import given
from hypothesis import strategies as st

from spokes.core.priority import PRIORITIES, Priority
from workers.fairness.held_by_portal import HeldByPortal
from workers.lanes.lane_pool import next_class
from workers.queue.room import room_left

HELD = st.fixed_dictionaries({"interactive": st.integers(0, 1_000), "import": st.integers(0, 1_000)})


@given(st.integers(1, 1_000), HELD)
def test_class_that_has_filled_its_room_leaves_some_to_the_other(limit: int, held: dict[Priority, int]) -> None:
    for own, other in (PRIORITIES, reversed(PRIORITIES)):
        assert room_left(limit, {own: limit, other: 0}).of(other) >= 1
        assert room_left(limit, {own: 0, other: 0}).of(own) == limit
        assert 0 <= room_left(limit, held).of(own) <= limit


@given(st.integers(1, 1_000), HELD)
def test_imports_give_way_to_interactive_work_down_to_a_quarter(limit: int, held: dict[Priority, int]) -> None:
    room = room_left(limit, held)
    assert room.of("interactive") == max(0, limit - held["interactive"])
    least = max(1, limit // 4)
    assert room.of("import") == max(0, max(least, limit - held["interactive"]) - held["import"])


@given(st.integers(0, 3), st.integers(1, 3), st.integers(0, 40), st.integers(1, 40), st.sampled_from(PRIORITIES))
def test_lane_runs_next_if_one_may(
    interactive: int, imports: int, running_imports: int, max_tasks: int, previous: Priority
) -> None:
    ready: dict[Priority, range] = {"interactive": range(interactive), "import": range(imports)}
    chosen = next_class(ready, min(running_imports, max_tasks - 1), max_tasks, previous)
    if chosen is not None:
        assert ready[chosen]
    assert chosen is not None or not interactive


@given(st.integers(1, 1_000), st.sampled_from(PRIORITIES))
def test_imports_never_use_the_last_tenth_of_the_tasks(max_tasks: int, previous: Priority) -> None:
    running = max_tasks - max_tasks // 10
    assert next_class({"interactive": (), "import": (1,)}, running, max_tasks, previous) is None


def test_waiting_classes_take_turns_while_imports_use_few_tasks() -> None:
    ready: dict[Priority, tuple[int]] = {"interactive": (1,), "import": (1,)}
    assert next_class(ready, 0, 1, "interactive") == "import"
    assert next_class(ready, 0, 1, "import") == "interactive"
    assert next_class(ready, 4, 40, "interactive") == "interactive"


HOLDINGS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 100)), max_size=60)  # portal and events of jobs


@given(st.integers(1, 1_000), st.integers(1, 4_000), HOLDINGS)
def test_portals_below_their_share_go_beyond_the_limits_by_as_much_again(
    max_jobs: int, max_events: int, holdings: list[tuple[int, int]]
) -> None:
    held = HeldByPortal()
    for portal, events in holdings:
        held.add(f"{portal}-1-a", events)
    job_share, event_share, jobs, events = held.reserve(max_jobs, max_events)
    assert (1 <= job_share <= max_jobs, 1 <= event_share <= max_events) == (True, True)
    assert (0 <= jobs <= max_jobs, 0 <= events <= max_events) == (True, True)


def test_portal_that_holds_everything_leaves_its_share_to_others() -> None:
    held = HeldByPortal()
    for _ in range(5_000):
        held.add("7-1-a", 100)
    assert held.reserve(800, 800) == (50, 50, 750, 750)


def test_ended_jobs_are_not_held() -> None:
    held = HeldByPortal()
    for job_id in ("7-1-a", "7-1-b"):
        held.add(job_id, 3)
    ended = [held.add(job_id, 3) for job_id in ("8-1-a", "foreign")]
    assert str(held) == "7:2:6,8:1:3"
    for portal in ("7", *ended):
        held.remove(portal, 3)
    assert str(held) == "7:1:3"
