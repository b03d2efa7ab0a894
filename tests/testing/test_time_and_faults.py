"""The test kit's clock, and HubSpot's failures: no test waits."""

from datetime import timedelta

import pytest

from spokes.core.errors import CRMUnavailable, RateLimited
from spokes.core.settings import Settings
from spokes.testing import Spokes
from spokes.testing.virtual_clock import duration_ms
from tests.support.deployment import ROOT


async def test_event_is_retried_until_an_outage_ends(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    await spokes.outage(status=503, calls=2)
    run = await spokes.deliver("contact.creation", ada)
    assert (run.outcome, run.attempts, run.error) == ("processed", 3, None)
    assert [type(error) for error in run.errors] == [CRMUnavailable, CRMUnavailable]
    assert spokes.hubspot.contacts[ada.id]["phone"] == "+12025550143"


async def test_event_that_outlasts_every_retry_is_dead(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    await spokes.outage(calls=10_000)
    run = await spokes.deliver("contact.creation", ada)
    assert (run.outcome, run.writes) == ("dead", [])
    assert run.attempts > 10


async def test_retries_can_be_followed_step_by_step(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    await spokes.outage(calls=1)
    first = await spokes.deliver("contact.creation", ada, follow_retries=False)
    assert (first.outcome, first.attempts) == ("retried", 1)
    assert (await spokes.advance("1 hour")).outcome == "processed"


async def test_total_outage_ends_with_end_outage(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    await spokes.outage()
    await spokes.deliver("contact.creation", ada, follow_retries=False)
    await spokes.end_outage()
    await spokes.advance("1 hour")
    assert spokes.hubspot.contacts[ada.id]["phone"] == "+12025550143"


async def test_broken_connection_after_a_write_does_not_write_twice_what_differs(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    await spokes.outage(status=0, calls=2, after_effect=True)
    run = await spokes.deliver("contact.creation", ada)
    assert run.outcome == "processed"


async def test_rate_limit_is_waited_out(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    await spokes.rate_limited(retry_after_s=20)
    run = await spokes.deliver("contact.creation", ada)
    assert (run.outcome, run.error) == ("processed", None)
    assert any(isinstance(error, RateLimited) for error in run.errors)


async def test_missing_scope_makes_a_dead_letter(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    await spokes.missing_scope("crm.objects.contacts.write")
    run = await spokes.deliver("contact.creation", ada)
    assert (run.outcome, run.reason) == ("dead", "not_permitted")


async def test_token_has_the_scopes_of_custom_objects_until_a_test_takes_them(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    await spokes.missing_scope("crm.objects.custom.read", "crm.objects.custom.write")
    assert (await spokes.deliver("contact.creation", ada)).outcome == "processed"


async def test_unknown_scope_is_refused(spokes: Spokes) -> None:
    with pytest.raises(ValueError, match="no scope"):
        await spokes.missing_scope("contacts.write")


async def test_redelivery_after_the_dedupe_window_is_admitted(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    run = await spokes.deliver("contact.creation", ada)
    await spokes.advance("1 day")
    assert (await spokes.redeliver(run)).outcome == "duplicate"
    await spokes.advance("3 days")
    assert (await spokes.redeliver(run)).admission["admitted"] == 1


async def test_dedupe_marks_of_advanced_time_expire_too(spokes: Spokes) -> None:
    await spokes.advance("30 days")
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    run = await spokes.deliver("contact.creation", ada)
    await spokes.advance(timedelta(hours=Settings().dedupe_hours + 25))
    assert (await spokes.redeliver(run)).admission["admitted"] == 1


@pytest.mark.parametrize(
    ("duration", "milliseconds"),
    [("3 days", 259_200_000), ("90 seconds", 90_000), ("1 hour 30 minutes", 5_400_000), (1.5, 1500)],
)
def test_durations_are_read(duration: str | float, milliseconds: int) -> None:
    assert duration_ms(duration) == milliseconds


@pytest.mark.parametrize("duration", ["soon", "3 fortnights", "days", -1, "3 days later"])
def test_unreadable_duration_is_refused(duration: str | float) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration_ms(duration)


def test_clock_covers_every_script_that_reads_the_time_of_the_server() -> None:
    timed = {path.name for path in ROOT.rglob("spokes/**/*.lua") if "'TIME'" in path.read_text()}
    timed |= {path.name for path in ROOT.rglob("workers/**/*.lua") if "'TIME'" in path.read_text()}
    assert timed == {"rate_budget.lua", "acquire_lanes.lua", "start_handler.lua", "virtual_time.lua"}
