"""The failures of HubSpot that a test asks for, as rules of the simulator. Pure."""

from typing import Final

from spokes.simulator.api.faults import Fault

_CRM_PATHS: Final = "/crm/*"
_STATUSES: Final = range(400, 600)


def outage_fault(status: object, calls: object, path: str, portal_id: int | None, *, after_effect: bool) -> Fault:
    """Return the rule by which HubSpot answers calls with an error; `status` 0 breaks the connection.

    Raises:
        ValueError: it is no error, or no number of calls.
    """
    if not isinstance(status, int) or not (status == 0 or status in _STATUSES):
        raise ValueError(f"status={status!r} is no error: write one from 400 to 599, or 0 to break the connection.")
    return Fault(
        path=path or ("*" if calls is None else _CRM_PATHS), times=_count(calls), status=status or None,
        reset=not status, after_effect=after_effect, portal_id=portal_id,
    )  # fmt: skip


def rate_limit_fault(calls: object, retry_after_s: object, portal_id: int | None) -> Fault:
    """Return the rule by which HubSpot answers calls with 429.

    Raises:
        ValueError: `calls` is no number of calls, or `retry_after_s` no number of seconds.
    """
    if retry_after_s is not None and not (isinstance(retry_after_s, int) and retry_after_s >= 0):
        raise ValueError(f"retry_after_s={retry_after_s!r} is no whole number of seconds.")
    retry_after = None if retry_after_s is None else str(retry_after_s)
    return Fault(path=_CRM_PATHS, times=_count(calls), status=429, retry_after=retry_after, portal_id=portal_id)


def _count(calls: object) -> int | None:
    if calls is None or (isinstance(calls, int) and not isinstance(calls, bool) and calls > 0):
        return calls
    raise ValueError(f"calls={calls!r} is no number of calls: write 1 or more.")
