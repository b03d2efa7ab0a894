"""Which error pauses what, why and for how long. Pure; the only place that decides it.

A rejected token, a used-up daily limit, a move and a long wait of all calls pause the portal. What concerns one kind of
call or one host of your own pauses that alone: see spokes/queue/pauses/call_pauses.py.
"""

from typing import Final, NamedTuple

from spokes.core.errors import DAILY_POLICY, CRMUnavailable, NotAuthorized, PortalMoving, RateLimited
from spokes.http.errors import TransientHttpError

DAILY_LIMIT: Final = "daily_limit"
_SEARCH_POLICY: Final = "SECONDLY"
_DAILY_PAUSE_S: Final = 900.0  # the limit resets at midnight in the portal's time zone, which HubSpot does not disclose
_MOVING_PAUSE_S: Final = 300.0  # if HubSpot names no time; a move takes up to a day
_LONG_WAIT_S: Final = 60.0  # a longer wait is a pause, which operators see and can end; a shorter one is waited out


class PauseDecision(NamedTuple):
    """What to pause: calls of `call_kind`, or if it is empty the portal; until HubSpot answers if `seconds` is None."""

    call_kind: str
    reason: str
    seconds: float | None


def pause_for_error(error: BaseException | None, wait_s: float | None = None) -> PauseDecision | None:
    """Return the pause that an error calls for by itself, or None.

    Args:
        error: of a call.
        wait_s: how long no such call is made, if that is known better than from the error.
    """
    match error:
        case NotAuthorized():
            return PauseDecision("", error.reason, None)
        case RateLimited(policy=policy, retry_after_s=named_s) if policy == DAILY_POLICY:
            return PauseDecision("", DAILY_LIMIT, wait_s or named_s or _DAILY_PAUSE_S)
        case PortalMoving(retry_after_s=named_s):
            return PauseDecision("", error.reason, wait_s or named_s or _MOVING_PAUSE_S)
        case RateLimited() | CRMUnavailable() | TransientHttpError() if (
            seconds := wait_s or error.retry_after_s or 0.0
        ) > _LONG_WAIT_S:
            concerns_kind = not isinstance(error, RateLimited) or error.policy == _SEARCH_POLICY
            if concerns_kind and not error.call_kind:
                return None
            return PauseDecision(error.call_kind if concerns_kind else "", error.reason, seconds)
        case _:
            return None
