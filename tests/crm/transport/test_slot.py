"""spokes.crm.transport.slot.Slot: the round trip of a call, and the limits that its response reports."""

import time

import pytest

from spokes.crm.transport.slot import Slot

WINDOW_S = 10.0


def slot_after(**headers: str) -> Slot:
    """Return a slot whose response had these headers, named as HubSpot names them without the prefix."""
    slot = Slot(WINDOW_S)
    slot.read_headers({f"x-hubspot-ratelimit-{name.replace('_', '-')}": value for name, value in headers.items()})
    return slot


def test_slot_without_a_response_reports_no_limit() -> None:
    slot = Slot(WINDOW_S)
    assert (slot.reported_limit, slot.reported_day_left, slot.reported_day_limit) == (None, None, None)
    assert slot.is_day_short is False


def test_round_trip_lasts_from_the_grant_until_now() -> None:
    before = time.monotonic()
    slot = Slot(WINDOW_S)
    granted = time.monotonic()
    time.sleep(0.002)
    assert time.monotonic() - granted <= slot.round_trip_s() + 0.001
    assert 0.002 <= slot.round_trip_s() <= time.monotonic() - before


def test_refused_call_has_no_round_trip() -> None:
    slot = Slot(WINDOW_S)
    slot.was_refused = True
    assert slot.round_trip_s() == 0.0


@pytest.mark.parametrize(("reported", "limit"), [("0", None), ("1", 1), ("190", 190)])
def test_limit_of_at_least_one_call_is_a_limit(reported: str, limit: int | None) -> None:
    assert slot_after(max=reported).reported_limit == limit


@pytest.mark.parametrize(("interval", "limit"), [("10000", 190), ("", 190), ("10010", None), ("1000", None)])
def test_limit_is_read_if_its_interval_is_the_window(interval: str, limit: int | None) -> None:
    assert slot_after(max="190", interval_milliseconds=interval).reported_limit == limit


@pytest.mark.parametrize(("left", "is_short"), [("99", True), ("100", False)])
def test_day_is_short_when_less_than_a_tenth_is_left(left: str, is_short: bool) -> None:
    assert slot_after(daily="1000", daily_remaining=left).is_day_short is is_short
