"""spokes.queue.pauses.call_breaker: when calls are paused, and what a probe shows."""

import random

from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import CRMError, CRMUnavailable, InvalidRequest, RateLimited
from spokes.crm.transport.paced_client import ApiRequest
from spokes.queue.held_deliveries import Calls
from spokes.queue.pauses.call_breaker import CallBreaker, probe_delay_s

WRITES, READS = Calls(7, "contacts.write"), Calls(7, "contacts.read")
WRITE = ApiRequest("PATCH", "/crm/objects/2026-09/contacts/1")
READ = ApiRequest("POST", "/crm/objects/2026-09/contacts/batch/read")


def test_breaker_opens_after_separate_failures_and_counts_anew() -> None:
    breaker = CallBreaker()
    opens = [breaker.record_failure(WRITES, now, str(now)) for now in (0.0, 0.5, 2.0, 4.0, 6.0, 8.0, 10.0)]
    assert opens == [False] * 5 + [True, False]


def test_failures_of_one_object_alone_do_not_open_the_breaker() -> None:
    breaker = CallBreaker()
    assert not any(breaker.record_failure(WRITES, now, "contact:1") for now in range(0, 100, 2))
    assert breaker.record_failure(WRITES, 100, "contact:2")


@given(calls=st.lists(st.tuples(st.sampled_from("fFa"), st.booleans()), max_size=60))
def test_breaker_opens_after_five_failures_in_a_row_of_one_kind_whatever_other_kinds_do(
    calls: list[tuple[str, bool]],
) -> None:
    breaker, in_a_row, now = CallBreaker(), 0, 0.0
    for what, is_read in calls:
        now += 2.0
        if what == "a":
            breaker.call_ended(7, READ if is_read else WRITE, None)
            in_a_row = in_a_row if is_read else 0
        elif is_read:
            breaker.record_failure(READS, now, str(now))
        else:
            in_a_row += 1
            assert breaker.record_failure(WRITES, now, str(now)) == (in_a_row == 5)
            in_a_row %= 5


@given(st.lists(st.sampled_from([None, InvalidRequest(), RateLimited(), CRMUnavailable(status=503)])))
def test_probe_succeeds_if_hubspot_answers_each_of_its_calls(ends: list[CRMError | None]) -> None:
    breaker = CallBreaker()
    breaker.begin_probe(WRITES)
    for error in ends:
        breaker.call_ended(7, READ, CRMUnavailable(status=503))
        breaker.call_ended(8, WRITE, CRMUnavailable(status=503))
        breaker.call_ended(7, WRITE, error)
    has_answers = not any(isinstance(error, CRMUnavailable) for error in ends)
    assert breaker.end_probe(WRITES).is_answered is (has_answers if ends else None)
    assert not breaker.is_probing(WRITES)


def test_probe_has_the_longest_retry_after_of_its_failed_calls() -> None:
    breaker = CallBreaker()
    breaker.begin_probe(WRITES)
    for seconds in (7.0, 900.0, None, 30.0):
        breaker.call_ended(7, WRITE, CRMUnavailable(status=503, retry_after_s=seconds))
    assert breaker.end_probe(WRITES).retry_after_s == 900.0


@given(failed_probes=st.integers(0, 10_000), seed=st.integers())
def test_delay_between_probes_grows_and_is_bounded(failed_probes: int, seed: int) -> None:
    delay_s = probe_delay_s(failed_probes, random.Random(seed))
    assert 5.0 <= delay_s <= 300.0
    assert delay_s <= 10.0 * 2 ** min(failed_probes, 16)
    if failed_probes >= 5:
        assert delay_s >= 150.0
