"""workers.delivery.rewrite_loops: who rewrites whom, and from when on it is a loop."""

import pytest
from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.crm.access import WriteRecord
from spokes.routing import Route, Uses
from spokes.tools import Tools
from tests.support.events import event
from workers.delivery.rewrite_loops import RewriteLoopDetector

PORTAL = 50112233


def change(value: str = "Bonn", source: str = "AUTOMATION_PLATFORM", name: str = "city", **fields: object) -> Event:
    told = {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": value}
    return Event(event(objectId=1, **told, changeSource=source, **fields))


def write(*names: str, ok: bool = True) -> WriteRecord:
    return WriteRecord("contacts.update", "contact", "1", names, "", ok, "")


async def nothing(event: Event, tools: Tools) -> None:
    """Do nothing."""


@pytest.fixture
def rounds(redis: Redis) -> RewriteLoopDetector:
    return RewriteLoopDetector(redis, b"key")


async def test_value_that_was_answered_comes_again_in_a_loop(rounds: RewriteLoopDetector) -> None:
    assert not await rounds.is_loop(change())
    await rounds.record_writes(change(), "ours", [write("city")])
    assert await rounds.is_loop(change())


async def test_program_that_was_answered_twice_is_a_loop_whatever_it_sets(rounds: RewriteLoopDetector) -> None:
    await rounds.record_writes(change("1"), "ours", [write("city")])
    assert not await rounds.is_loop(change("2"))
    await rounds.record_writes(change("2"), "ours", [write("city")])
    assert await rounds.is_loop(change("3"))


async def test_people_may_repeat_themselves(rounds: RewriteLoopDetector) -> None:
    for _ in range(3):
        await rounds.record_writes(change(source="CRM_UI"), "ours", [write("city")])
    assert not await rounds.is_loop(change(source="CRM_UI"))


async def test_answers_to_people_do_not_count_against_programs(rounds: RewriteLoopDetector) -> None:
    for _ in range(3):
        await rounds.record_writes(change(source="CRM_UI"), "ours", [write("city")])
    assert not await rounds.is_loop(change())


async def test_withheld_values_are_not_taken_for_one_another(rounds: RewriteLoopDetector) -> None:
    await rounds.record_writes(change("REDACTED", occurredAt=1), "ours", [write("city")])
    assert not await rounds.is_loop(change("REDACTED", occurredAt=2))


async def test_refused_write_is_no_answer(rounds: RewriteLoopDetector) -> None:
    await rounds.record_writes(change(), "ours", [write("city", ok=False)])
    assert not await rounds.is_loop(change())


async def test_values_are_kept_as_hashes(redis: Redis, rounds: RewriteLoopDetector) -> None:
    await rounds.record_writes(change("Bonn"), "ours", [write("city")])
    (name,) = await redis.keys("*rounds*")
    assert b"Bonn" not in repr(await redis.hgetall(name)).encode()


@pytest.mark.parametrize(
    ("reader", "may", "told"),
    [("other", {"contacts.update"}, True), ("other", set(), False), ("ours", {"contacts.update"}, False)],
)
async def test_handler_that_is_not_run_for_anothers_write_is_told_of_if_it_may_write(
    rounds: RewriteLoopDetector, capsys: pytest.CaptureFixture[str], reader: str, may: set[str], told: bool
) -> None:
    await rounds.record_writes(change(source="CRM_UI"), "ours", [write("state")])
    await rounds.on_echo(change(name="state"), Route(reader, nothing, Uses(may=frozenset(may))))
    assert ("rewrite_loop" in capsys.readouterr().out) == told
