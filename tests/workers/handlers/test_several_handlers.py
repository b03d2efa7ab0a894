"""Events with two handlers, on a real Valkey: each handler has its own outcome, retries, dead letters and effects."""

from typing import TYPE_CHECKING

import pytest

from spokes.audit.records import Action
from spokes.core import clock
from spokes.core.errors import RetryLater
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.queue.dead_letters import DeadLetters
from spokes.queue.pauses.handler_pauses import HandlerPauses
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.tools import Tools
from tests.support.events import recorded
from tests.workers.handlers.several_handlers import SeveralHandlers
from tests.workers.harness import PORTAL, Harness, change, merge, object_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRST, SECOND = "contacts.first", "contacts.second"
_DONE = ("processed", "")


@pytest.fixture
async def workers(harness: Harness) -> "AsyncIterator[SeveralHandlers]":
    workers = SeveralHandlers(harness)
    yield workers
    await workers.parts.close()


def of(handler: str, outcomes: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(outcome, reason) for name, outcome, reason in outcomes if name == handler]


async def test_handlers_of_an_event_run_in_the_order_of_the_router(workers: SeveralHandlers) -> None:
    await workers.run(change("a", 1), object_event("creation", 2))
    assert sorted(workers.calls) == [
        ("first", "1", "a", 0),
        ("first", "2", None, 0),
        ("second", "1", "a", 0),
        ("second", "2", None, 0),
    ]
    assert [name for name, object_id, *_ in workers.calls if object_id == "1"] == ["first", "second"]
    assert sorted(await workers.outcomes()) == [(FIRST, *_DONE)] * 2 + [(SECOND, *_DONE)] * 2
    assert not await workers.job_ids()


async def test_records_of_all_handlers_name_the_same_event(workers: SeveralHandlers) -> None:
    await workers.run(change("a", 1))
    records = [record for record in await recorded(workers.redis) if record.action is Action.EVENT]
    assert len({record.event_key for record in records}) == 1
    assert len(records[0].event_key) == 20


async def test_failed_handler_is_retried_alone_and_the_other_does_not_wait(workers: SeveralHandlers) -> None:
    workers.errors["first"] = [RetryLater()]
    await workers.run(change("a", 1))
    assert [call[0] for call in workers.calls] == ["first", "second"]
    await workers.run_queued()
    assert [call[0] for call in workers.calls] == ["first", "second", "first"]
    assert await workers.outcomes() == [(SECOND, *_DONE), (FIRST, "retried", "retry_later"), (FIRST, *_DONE)]


async def test_attempts_are_counted_for_each_handler(workers: SeveralHandlers) -> None:
    workers.errors["second"] = [RetryLater(), RetryLater()]
    await workers.run(change("a", 1))
    while await workers.run_queued():
        pass
    attempts = [(record.handler, record.attempt) for record in await recorded(workers.redis)]
    assert sorted(attempts) == [(FIRST, 1), (SECOND, 1), (SECOND, 2), (SECOND, 3)]


async def test_dead_letter_of_one_handler_is_replayed_for_it_alone(workers: SeveralHandlers) -> None:
    workers.errors["second"] = [LookupError()]
    await workers.run(change("a", 1))
    dead = DeadLetters(workers.redis)
    (letter,) = [letter async for letter in dead.list(PORTAL)]
    assert (letter.handler, letter.reason) == (SECOND, "handler_error:LookupError")
    assert await dead.replay([letter], actor="ada", reason="fixed") == 1
    await workers.run_queued()
    assert [call[0] for call in workers.calls] == ["first", "second", "second"]
    assert of(SECOND, await workers.outcomes())[-1] == _DONE
    assert not [letter async for letter in dead.list(PORTAL)]


async def test_both_handlers_may_have_a_dead_letter_of_one_event(workers: SeveralHandlers) -> None:
    workers.errors["first"], workers.errors["second"] = [LookupError()], [KeyError()]
    await workers.run(change("a", 1))
    letters = [letter async for letter in DeadLetters(workers.redis).list(PORTAL)]
    assert sorted(letter.handler for letter in letters) == [FIRST, SECOND]


async def test_later_change_waits_for_the_retry_of_the_same_handler_only(harness: Harness) -> None:
    workers = SeveralHandlers(harness, each_event=["first", "second"])
    workers.errors["first"] = [RetryLater()]
    await workers.run(change("a", 1), change("b", 2))
    assert [call[:3] for call in workers.calls] == [("first", "1", "a"), ("second", "1", "a"), ("second", "1", "b")]
    await workers.run_queued()
    assert [outcome for outcome, _ in of(FIRST, await workers.outcomes())] == [
        "retried",
        "parked",
        "processed",
        "processed",
    ]
    await workers.parts.close()


async def test_changes_are_coalesced_for_each_handler(harness: Harness) -> None:
    workers = SeveralHandlers(harness, "first", "second", each_event=["second"])
    await workers.run(change("a", 1), change("b", 2))
    assert workers.calls == [("second", "1", "a", 0), ("first", "1", "b", 1), ("second", "1", "b", 0)]
    assert of(FIRST, await workers.outcomes()) == [("coalesced", "newer_change_speaks_for_it"), _DONE]
    await workers.parts.close()


async def test_older_change_runs_for_the_handler_that_has_not_applied_a_newer_one(workers: SeveralHandlers) -> None:
    await workers.run(change("b", 2))
    workers.errors["second"] = [RetryLater()]
    await workers.run(change("c", 3))
    await workers.run(change("d", 4))
    await workers.run_queued()
    assert ("second", "1", "c", 0) in workers.calls
    assert [outcome for outcome, _ in of(FIRST, await workers.outcomes())] == ["processed"] * 3


@pytest.mark.parametrize("fails", [False, True])
async def test_write_of_one_handler_takes_no_event_from_the_other(
    workers: SeveralHandlers, hubspot: Simulator, *, fails: bool
) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Ulm"}, USER)

    async def write_same_value(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.update(event.object_id, {"city": event.property_value})

    workers.does["first"] = write_same_value
    workers.errors["second"] = [RetryLater()] if fails else []
    await workers.run(change("Bonn", clock.now_ms(), "city", int(contact.id)))
    await workers.run_queued()
    assert [outcome for outcome, _ in of(SECOND, await workers.outcomes())][-1] == "processed"


async def test_write_of_one_handler_is_an_echo_for_all(workers: SeveralHandlers, harness: Harness) -> None:
    await harness.crm.own_writes.record_write(PORTAL, "contact", "1", {"city": "Berlin"})
    await workers.run(change("Berlin", 9, changeSource="INTEGRATION"))
    assert (workers.calls, await workers.outcomes()) == (
        [],
        [(FIRST, "echo", "own_write"), (SECOND, "echo", "own_write")],
    )


async def test_answer_of_one_handler_to_an_automation_is_no_loop_for_the_other(
    workers: SeveralHandlers, hubspot: Simulator
) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Ulm"}, USER)

    async def write(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.update(event.object_id, {"city": f"{event.property_value}0"})

    workers.does["first"] = workers.does["second"] = write
    now_ms, source = clock.now_ms(), "AUTOMATION_PLATFORM"
    for value, at in (("2", now_ms), ("3", now_ms + 1)):
        await workers.run(change(value, at, "city", int(contact.id), changeSource=source))
    assert [outcome for _, outcome, _ in await workers.outcomes()] == ["processed"] * 4
    await workers.run(change("4", now_ms + 2, "city", int(contact.id), changeSource=source))
    assert {reason for _, _, reason in (await workers.outcomes())[4:]} == {"rewrite_loop"}


async def test_each_handler_has_its_own_effects_of_once(workers: SeveralHandlers) -> None:
    created: list[str] = []

    def effect(handler: str) -> "object":
        async def create_once(event: Event, tools: Tools) -> None:
            async def create() -> str:
                created.append(handler)
                return "7"

            await tools.once("note", create)

        return create_once

    workers.does = {name: effect(name) for name in ("first", "second")}  # type: ignore[misc]
    await workers.run(object_event("creation", 1))
    await workers.run(change("a", 2))
    assert created == ["first", "second"]


async def test_effect_outlives_a_change_of_the_number_of_handlers(workers: SeveralHandlers) -> None:
    created: list[str] = []

    async def create_once(event: Event, tools: Tools) -> None:
        async def create() -> str:
            created.append("x")
            return "7"

        await tools.once("note", create)

    workers.does["second"] = create_once
    for at, names in enumerate((("second",), ("first", "second"), ("second",)), start=1):
        await workers.parts.close()
        workers.start(*names)
        await workers.run(change("a", at))
    assert created == ["x"]


async def test_effect_of_an_earlier_version_counts_for_every_handler(workers: SeveralHandlers) -> None:
    await workers.redis.hset(keys.once_effects(PORTAL, "contact", "1"), "note", "5")  # type: ignore[misc]  # redis-py types one class for sync and async
    ids: list[str] = []

    async def create_once(event: Event, tools: Tools) -> None:
        async def create() -> str:
            return "7"

        ids.append(await tools.once("note", create))

    workers.does = dict.fromkeys(("first", "second"), create_once)
    await workers.run(object_event("creation", 1))
    assert ids == ["5", "5"]


async def test_merge_is_recorded_once(workers: SeveralHandlers) -> None:
    await workers.run(merge(1, 2))
    actions = [record.action for record in await recorded(workers.redis)]
    assert actions.count(Action.OBJECT_MERGED) == 1


async def test_event_of_a_removed_handler_becomes_a_dead_letter_that_says_so(workers: SeveralHandlers) -> None:
    workers.errors["second"] = [RetryLater()]
    await workers.run(change("a", 1))
    await workers.parts.close()
    workers.start("first")
    await workers.run_queued()
    assert (await workers.outcomes())[-1] == (SECOND, "dead", "handler_not_registered")
    assert [call[0] for call in workers.calls] == ["first", "second"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("first",), ("first", "second"), []),
        (("first", "second"), ("first",), []),
        (("first", "second"), ("second", "first"), ["second"]),
        (("first", "second"), ("third", "first", "second"), ["third", "second"]),
    ],
)
async def test_settled_handler_is_not_repeated_after_an_upgrade(
    workers: SeveralHandlers, before: tuple[str, ...], after: tuple[str, ...], expected: list[str]
) -> None:
    """A worker dies after it has settled the first handler; the next one has other handlers."""
    delivery = await workers.harness.queue(change("a", 1))
    (entry,) = delivery.entries
    settled = entry.key if len(before) == 1 else entry.for_handler(FIRST).key
    await workers.redis.sadd(keys.settled_events(PORTAL, delivery.id), settled)  # type: ignore[misc]  # as above
    await workers.parts.close()
    workers.start(*after)
    await workers.run_queued()
    assert [call[0] for call in workers.calls] == expected
    assert not await workers.job_ids()


async def test_crashing_handler_is_isolated_from_the_other(workers: SeveralHandlers) -> None:
    await workers.harness.queue(change("a", 1))
    assert await workers.run_queued(attempt=4) == 1
    assert [outcome for _, outcome, _ in await workers.outcomes()] == ["parked", "parked"]
    assert len(await workers.job_ids()) == 2
    await workers.run_queued()
    assert [call[0] for call in workers.calls] == ["first", "second"]


async def test_events_of_a_paused_handler_wait_and_the_other_runs(workers: SeveralHandlers) -> None:
    pauses = workers.harness.pauses
    await HandlerPauses(workers.redis).pause(FIRST, PORTAL, actor="ada", reason="wrong")
    await pauses.refresh()
    await workers.run(change("a", 1), object_event("creation", 1, at=2))
    assert [call[0] for call in workers.calls] == ["second", "second"]
    assert of(FIRST, await workers.outcomes()) == [("parked", "handler_paused")] * 2
    await HandlerPauses(workers.redis).resume(FIRST, None, actor="ada", reason="right")
    await pauses.refresh()
    now_ms = clock.now_ms()
    assert all(due_ms <= now_ms for _, due_ms in await workers.redis.zrange(keys.JOB_QUEUE, 0, -1, withscores=True))
    await workers.run_queued()
    assert [call[0] for call in workers.calls] == ["second", "second", "first", "first"]
    assert not await workers.job_ids()
