"""The 72-hour clock of an incident, and what its text may hold."""

import pytest

from spokes.audit.incidents.incident import ClockState, Incident, check_times, clean_text
from spokes.core.errors import IncidentRejected
from spokes.core.masking import Mask

HOUR_MS = 3_600_000
AWARE = 1_795_442_400_000
DUE = AWARE + 72 * HOUR_MS


def incident(**fields: object) -> Incident:
    return Incident(**{"title": "t", "aware_at": AWARE, "opened_by": "ada", "since": 0, **fields})  # type: ignore[arg-type]  # the tests' own fields


@pytest.mark.parametrize(
    ("now", "state", "sentence"),
    [
        (AWARE, ClockState.RUNNING, "72 h 0 min left to notify the authority."),
        (DUE - 90 * 60_000, ClockState.RUNNING, "1 h 30 min left to notify the authority."),
        (DUE, ClockState.RUNNING, "0 h 0 min left to notify the authority."),
        (DUE + 1, ClockState.OVERDUE, "OVERDUE by 0 h 0 min: the authority is not notified."),
        (DUE + 125 * 60_000, ClockState.OVERDUE, "OVERDUE by 2 h 5 min: the authority is not notified."),
    ],
)
def test_clock_runs_for_72_hours_from_awareness(now: int, state: ClockState, sentence: str) -> None:
    assert (incident().clock_state(now), incident().clock_sentence(now)) == (state, sentence)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"notified_at": DUE}, ClockState.NOTIFIED),
        ({"notified_at": DUE + 1}, ClockState.NOTIFIED_LATE),
        ({"notified_at": DUE, "closed_at": DUE + 1}, ClockState.NOTIFIED),
        ({"closed_at": DUE + 1}, ClockState.ENDED),
    ],
)
def test_notification_or_end_stops_the_clock(fields: dict[str, object], state: ClockState) -> None:
    assert incident(**fields).clock_state(DUE + 1_000_000) is state


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"aware_at": DUE + 1}, "awareness is in the future"),
        ({"since": DUE + 1}, "begins in the future"),
        ({"since": 5, "until": 5}, "ends before it begins"),
    ],
)
def test_contradictory_time_is_refused_with_its_reason(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(IncidentRejected, match=reason):
        check_times(incident(**fields), DUE)


def test_text_is_masked_and_storable_in_every_database() -> None:
    text = " ada@example.com, 202-555-0147, pat-eu1-0123abcd-4567 and s3cr3t\0\udcff "
    assert clean_text(text, Mask(["s3cr3t"]), what="note", limit=100) == "***, ***, *** and ***\ufffd?"


@pytest.mark.parametrize(("text", "reason"), [(" \n", "is empty"), ("x" * 101, "101 characters; 100 are allowed")])
def test_empty_and_long_texts_are_refused(text: str, reason: str) -> None:
    with pytest.raises(IncidentRejected, match=reason):
        clean_text(text, Mask(), what="note", limit=100)
