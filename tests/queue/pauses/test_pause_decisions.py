"""spokes.queue.pauses.pause_decisions: which error pauses what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import (
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    NotAuthorized,
    ObjectLocked,
    PortalMoving,
    RateLimited,
)
from spokes.queue.pauses.pause_decisions import PauseDecision, pause_for_error


def of_call(error: CRMError, kind: str = "contacts.write") -> CRMError:
    error.call_kind = kind
    return error


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (of_call(NotAuthorized()), ("", "not_authorized", None)),
        (of_call(RateLimited(policy="DAILY")), ("", "daily_limit", 900.0)),
        (of_call(RateLimited(policy="DAILY", retry_after_s=7_200)), ("", "daily_limit", 7_200)),
        (of_call(PortalMoving(retry_after_s=3_600)), ("", "portal_moving", 3_600)),
        (of_call(PortalMoving()), ("", "portal_moving", 300.0)),
        (of_call(RateLimited(policy="TEN_SECONDLY_ROLLING", retry_after_s=600)), ("", "rate_limited", 600)),
        (RateLimited(retry_after_s=600), ("", "rate_limited", 600)),
        (
            of_call(RateLimited(policy="SECONDLY", retry_after_s=600), "deals.search"),
            ("deals.search", "rate_limited", 600),
        ),
        (RateLimited(policy="SECONDLY", retry_after_s=600), None),
        (of_call(CRMUnavailable(status=503, retry_after_s=600)), ("contacts.write", "crm_unavailable", 600)),
        (of_call(CRMUnavailable(status=503)), None),
        (CRMUnavailable(retry_after_s=600), None),
        (of_call(ObjectLocked(retry_after_s=600)), None),
        (of_call(InvalidRequest()), None),
        (ValueError(), None),
    ],
    ids=repr,
)
def test_error_pauses_the_portal_or_one_kind_of_call(error: BaseException, decision: tuple[object, ...] | None) -> None:
    assert pause_for_error(error) == decision


def test_wait_that_the_rate_budget_knows_wins() -> None:
    assert pause_for_error(RateLimited(policy="DAILY"), 50_000.0) == PauseDecision("", "daily_limit", 50_000.0)


@given(wait_s=st.floats(0, 60), policy=st.sampled_from(["", "SECONDLY", "TEN_SECONDLY_ROLLING"]))
def test_short_wait_is_no_pause(wait_s: float, policy: str) -> None:
    assert pause_for_error(of_call(RateLimited(policy=policy, retry_after_s=wait_s))) is None
    assert pause_for_error(of_call(CRMUnavailable(status=503, retry_after_s=wait_s))) is None
