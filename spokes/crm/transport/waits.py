"""What a failed call means for all others. Rule: pure, and HubSpot's own wait wins over ours.

Source: HubSpot's docs, "API usage guidelines and limits" and "Error handling".
"""

from datetime import datetime, timedelta, tzinfo
from typing import Final, Literal, NamedTuple, TypeAlias

from spokes.core.errors import ObjectLocked, PortalMoving, RateLimited, TransientCRMError

Kind: TypeAlias = Literal["calls", "search", "associations"]
Reach: TypeAlias = Kind | Literal["portal"]  # what a pause holds up: one kind of call, or all of the portal's

SEARCH_WINDOW_S: Final = 1.0
_LOCKED_S: Final = 2.0  # HubSpot asks for at least this
_MOVING_S: Final = 300.0  # a move takes up to a day; where HubSpot names no time, we ask again every five minutes
DAY_UNKNOWN_S: Final = 900.0  # how long to wait for a new day, where the portal's time zone is not known
_MIDNIGHT_SLACK_S: Final = 5.0  # HubSpot's clock is not ours
_MOVING: Final = PortalMoving.reason


class Pause(NamedTuple):
    """A wait that all processes share: what it holds up, seconds, and HubSpot's policy or our reason for it."""

    reach: Reach
    seconds: float
    why: str


def day_left_s(now: datetime, zone: tzinfo) -> float:
    """Return seconds until the daily limit comes back: midnight in the portal's time zone, and a little.

    Args:
        now: with a time zone, any.
    """
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone)
    return midnight.timestamp() - now.timestamp() + _MIDNIGHT_SLACK_S


def shared_wait(error: TransientCRMError, kind: Kind, window_s: float, day_left: float | None = None) -> Pause | None:
    """What a failed call means for all others; None when it means nothing. HubSpot's own wait wins.

    Args:
        day_left: seconds until the daily limit comes back, None where that is not known.
    """
    told = error.retry_after_s
    match error:
        case PortalMoving():
            return Pause("portal", _MOVING_S if told is None else told, _MOVING)
        case RateLimited(policy="DAILY"):
            fallback = DAY_UNKNOWN_S if day_left is None else day_left
            return Pause("portal", fallback if told is None else told, "DAILY")
        case RateLimited(policy=policy):
            fallback = SEARCH_WINDOW_S if policy == "SECONDLY" else window_s
            return Pause(kind, fallback if told is None else told, policy or error.reason)
        case ObjectLocked():
            return Pause(kind, _LOCKED_S if told is None else max(told, _LOCKED_S), error.reason)
        case _:
            return None if told is None else Pause(kind, told, error.reason)


def too_long(wait_s: float, why: str) -> TransientCRMError:
    """Return the error for a call that was not made because a pause lasts longer than anybody should wait."""
    if why == _MOVING:
        return PortalMoving(retry_after_s=wait_s)
    return RateLimited(status=0, retry_after_s=wait_s, policy=why)
