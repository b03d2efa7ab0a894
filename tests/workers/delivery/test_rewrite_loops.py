"""workers.delivery.rewrite_loops: which changes react to our own writes, and which alerts that causes."""

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
    change = {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": value}
    return Event(event(objectId=1, **change, changeSource=source, **fields))


def write(*names: str, ok: bool = True) -> WriteRecord:
    return WriteRecord("contacts.update", "contact", "1", names, "", ok, "")


async def nothing(event: Event, tools: Tools) -> None:
    """Do nothing."""


@pytest.fixture
def detector(redis: Redis) -> RewriteLoopDetector:
    return RewriteLoopDetector(redis, b"key")


async def test_repeated_value_that_we_answered_is_a_loop(detector: RewriteLoopDetector) -> None:
    assert not await detector.is_loop(change())
    await detector.record_writes(change(), "ours", [write("city")])
    assert await detector.is_loop(change())


async def test_automation_that_we_answered_twice_is_a_loop_whatever_it_sets(detector: RewriteLoopDetector) -> None:
    await detector.record_writes(change("1"), "ours", [write("city")])
    assert not await detector.is_loop(change("2"))
    await detector.record_writes(change("2"), "ours", [write("city")])
    assert await detector.is_loop(change("3"))


async def test_people_may_repeat_changes(detector: RewriteLoopDetector) -> None:
    for _ in range(3):
        await detector.record_writes(change(source="CRM_UI"), "ours", [write("city")])
    assert not await detector.is_loop(change(source="CRM_UI"))


async def test_answers_to_people_do_not_count_against_automations(detector: RewriteLoopDetector) -> None:
    for _ in range(3):
        await detector.record_writes(change(source="CRM_UI"), "ours", [write("city")])
    assert not await detector.is_loop(change())


async def test_withheld_values_are_not_treated_as_equal(detector: RewriteLoopDetector) -> None:
    await detector.record_writes(change("REDACTED", occurredAt=1), "ours", [write("city")])
    assert not await detector.is_loop(change("REDACTED", occurredAt=2))


async def test_failed_write_is_not_an_answer(detector: RewriteLoopDetector) -> None:
    await detector.record_writes(change(), "ours", [write("city", ok=False)])
    assert not await detector.is_loop(change())


async def test_values_are_stored_as_hashes(redis: Redis, detector: RewriteLoopDetector) -> None:
    await detector.record_writes(change("Bonn"), "ours", [write("city")])
    (key,) = await redis.keys("*rounds*")
    assert b"Bonn" not in repr(await redis.hgetall(key)).encode()


@pytest.mark.parametrize(
    ("handler", "may", "has_alert"),
    [("other", {"contacts.update"}, True), ("other", set(), False), ("ours", {"contacts.update"}, False)],
)
async def test_echo_that_another_writing_handler_would_have_handled_is_an_alert(
    detector: RewriteLoopDetector, capsys: pytest.CaptureFixture[str], handler: str, may: set[str], has_alert: bool
) -> None:
    await detector.record_writes(change(source="CRM_UI"), "ours", [write("state")])
    await detector.on_echo(change(name="state"), Route(handler, nothing, Uses(may=frozenset(may))))
    assert ("rewrite_loop" in capsys.readouterr().out) == has_alert
