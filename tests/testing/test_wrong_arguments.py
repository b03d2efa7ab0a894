"""Arguments of the test kit that make no sense: one sentence each, in place of a test that proves nothing."""

from typing import Any

import pytest

from spokes.testing import Spokes


@pytest.mark.parametrize(
    "options", [{"status": 99}, {"status": 200}, {"status": "503"}, {"calls": 0}, {"calls": -1}, {"calls": 1.5}]
)
async def test_outage_is_an_error_of_one_call_or_more(spokes: Spokes, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is no error|is no number of calls"):
        await spokes.outage(**options)


@pytest.mark.parametrize("options", [{"calls": 0}, {"retry_after_s": -1}, {"retry_after_s": "20"}])
async def test_rate_limit_has_whole_numbers(spokes: Spokes, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is no "):
        await spokes.rate_limited(**options)


async def test_missing_scope_is_named(spokes: Spokes) -> None:
    with pytest.raises(ValueError, match="name the scopes"):
        await spokes.missing_scope()


async def test_value_of_an_event_is_text_as_hubspot_sends_it(spokes: Spokes) -> None:
    deal = await spokes.hubspot.deals.create(dealname="Big")
    run = await spokes.deliver("deal.propertyChange", deal, property="amount", value=5)  # type: ignore[arg-type]  # a number is fine
    assert (run.events[0]["propertyValue"], deal["amount"]) == ("5", "5")
