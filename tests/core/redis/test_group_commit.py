"""spokes.core.redis.group_commit: which items share a call, and who gets its answer or error."""

import asyncio
from collections.abc import Sequence

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from spokes.core.redis import outage as redis_outage
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.outage import RedisOutage


class Commits:
    """A commit that records its groups; it waits for `go_on` and raises the next of `errors`."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.errors: list[Exception] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, items: list[int]) -> Sequence[int]:
        self.groups.append(items)
        await asyncio.sleep(0)
        await self.go_on.wait()
        if self.errors:
            raise self.errors.pop(0)
        return [item * 10 for item in items]


@pytest.fixture
async def commits() -> Commits:
    return Commits()


def weighed(commits: Commits, *, max_weight: int) -> GroupCommit[int, int]:
    """Return a group commit of numbers that weigh their own value."""
    return GroupCommit(commits, max_weight=max_weight, weight=lambda item: item)


async def groups(commits: Commits, *weights: int, max_weight: int) -> list[list[int]]:
    """Submit items during a call; return the groups that follow it."""
    group_commit = weighed(commits, max_weight=max_weight)
    first = group_commit.submit(max_weight)
    await asyncio.gather(first, *map(group_commit.submit, weights))
    return commits.groups[1:]


async def test_group_takes_no_further_item_once_it_is_heavy_enough(commits: Commits) -> None:
    assert await groups(commits, 60, 60, 60, 60, max_weight=100) == [[60, 60], [60, 60]]


async def test_item_heavier_than_a_group_is_committed_alone(commits: Commits) -> None:
    assert await groups(commits, 500, 1, max_weight=100) == [[500], [1]]


async def test_items_without_weight_share_a_group(commits: Commits) -> None:
    assert await groups(commits, *[0] * 300, max_weight=100) == [[0] * 300]


async def test_items_weigh_one_unless_told_otherwise(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=2)
    await asyncio.gather(*map(group_commit.submit, (7, 8, 9)))
    assert commits.groups == [[7, 8], [9]]


async def test_each_submitter_gets_the_answer_of_its_item(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=2)
    assert await asyncio.gather(*map(group_commit.submit, (1, 2, 3))) == [10, 20, 30]


async def test_answer_goes_to_the_future_that_was_passed(commits: Commits) -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    assert GroupCommit(commits, max_weight=1).submit(4, answer) is answer
    assert await answer == 40


async def test_enqueued_items_keep_their_order(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=10)
    for item in (1, 2):
        group_commit.enqueue(item)
    await group_commit.submit(3)
    assert commits.groups == [[1, 2, 3]]


async def test_items_are_pending_until_their_call_is_answered(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=1)
    commits.go_on.clear()
    for item in (1, 2):
        group_commit.enqueue(item)
    await asyncio.sleep(0)
    assert (commits.groups, list(group_commit.pending())) == ([[1]], [1, 2])
    commits.go_on.set()
    await group_commit.close()
    assert (commits.groups, list(group_commit.pending())) == ([[1], [2]], [])


async def test_close_without_items_returns_at_once(commits: Commits) -> None:
    await GroupCommit(commits, max_weight=1).close()
    assert commits.groups == []


async def test_error_reaches_each_submitter_of_its_group_and_no_other(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=2)
    commits.errors = [ValueError("a bug")]
    results = await asyncio.gather(*map(group_commit.submit, (1, 2, 3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError, int]


async def test_answers_that_do_not_match_the_items_are_an_error_for_the_submitter() -> None:
    async def commit(items: list[int]) -> list[int]:
        return items[1:]

    with pytest.raises(ValueError, match="shorter"):
        await GroupCommit(commit, max_weight=1).submit(1)


async def test_cancelled_submitter_does_not_disturb_the_others(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=2)
    cancelled, other = group_commit.submit(1), group_commit.submit(2)
    cancelled.cancel()
    assert await other == 20


async def test_call_is_repeated_until_redis_is_back(commits: Commits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_outage, "_FIRST_WAIT_S", 0.0)
    group_commit = GroupCommit(commits, max_weight=2, outage=RedisOutage())
    commits.errors = [RedisConnectionError(), RedisConnectionError()]
    assert await group_commit.submit(1) == 10
    assert commits.groups == [[1], [1], [1]]


async def test_error_that_is_no_outage_is_not_retried(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=2, outage=RedisOutage())
    commits.errors = [ValueError("a bug")]
    with pytest.raises(ValueError, match="a bug"):
        await group_commit.submit(1)


async def test_outage_is_the_submitters_error_where_nobody_waits_it_out(commits: Commits) -> None:
    commits.errors = [RedisConnectionError()]
    with pytest.raises(RedisConnectionError):
        await GroupCommit(commits, max_weight=2).submit(1)


class TestFullGroups:
    """A full group does not wait for the current call."""

    @pytest.fixture
    def full(self, commits: Commits) -> GroupCommit[int, int]:
        commits.go_on.clear()
        return GroupCommit(commits, max_weight=100, weight=lambda item: item, full_weight=50, max_calls=2)

    async def test_full_group_is_committed_beside_the_call_under_way(
        self, commits: Commits, full: GroupCommit[int, int]
    ) -> None:
        for item in (10, 50):
            full.enqueue(item)
            for _ in range(3):
                await asyncio.sleep(0)
        assert commits.groups == [[10], [50]]

    async def test_lighter_group_waits_for_the_call_under_way(
        self, commits: Commits, full: GroupCommit[int, int]
    ) -> None:
        for item in (10, 20):
            full.enqueue(item)
            for _ in range(3):
                await asyncio.sleep(0)
        assert commits.groups == [[10]]
        commits.go_on.set()
        await full.close()
        assert commits.groups == [[10], [20]]

    async def test_no_more_calls_are_made_at_a_time_than_allowed(
        self, commits: Commits, full: GroupCommit[int, int]
    ) -> None:
        for item in (50, 51, 52):
            full.enqueue(item)
            for _ in range(3):
                await asyncio.sleep(0)
        assert commits.groups == [[50], [51]]
        commits.go_on.set()
        await full.close()
        assert commits.groups == [[50], [51], [52]]

    async def test_items_of_one_iteration_of_the_event_loop_share_a_group(
        self, commits: Commits, full: GroupCommit[int, int]
    ) -> None:
        full.enqueue(1)
        await asyncio.sleep(0)  # the task has begun, and waits for the rest of the iteration
        full.enqueue(2)
        commits.go_on.set()
        await full.close()
        assert commits.groups == [[1, 2]]


async def test_gathering_group_takes_what_the_following_iterations_of_the_loop_add(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=100, gathers=True)
    answers = []
    for item in (1, 2, 3):
        answers.append(group_commit.submit(item))
        await asyncio.sleep(0)
    assert await asyncio.gather(*answers) == [10, 20, 30]
    assert commits.groups == [[1, 2, 3]]


async def test_gathering_group_leaves_once_it_is_full(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=2, gathers=True)
    await asyncio.gather(*map(group_commit.submit, (1, 2, 3)))
    assert commits.groups == [[1, 2], [3]]


async def test_gathering_group_leaves_although_each_iteration_of_the_loop_adds_an_item(commits: Commits) -> None:
    group_commit = GroupCommit(commits, max_weight=1000, gathers=True)
    for item in range(200):
        group_commit.enqueue(item)
        await asyncio.sleep(0)
    assert len(commits.groups) > 1
