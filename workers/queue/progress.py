"""Which deliveries of this worker have run for long, and in which handlers. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from spokes.queue.running_deliveries import MIN_AGE_S, RunningDelivery

_MIN_DEADLINE_S: Final = 60.0
_HANDLERS_IN_A_ROW: Final = 5  # one object's events run one after another; more than these deserve a look


def deadline_s(handler_timeout_s: float) -> float:
    """Return the seconds after which a delivery in progress is overdue."""
    return max(_MIN_DEADLINE_S, _HANDLERS_IN_A_ROW * handler_timeout_s)


def long_running(
    started_at: Mapping[str, int], handlers: Mapping[str, Iterable[str]], worker: str, now_ms: int, overdue_s: float
) -> list[RunningDelivery]:
    """Return the deliveries that have run for some seconds.

    Args:
        started_at: epoch ms by delivery.
        handlers: names of the handlers that run now, by delivery.
        worker: the name of this process.
        now_ms: epoch ms.
        overdue_s: see deadline_s.
    """
    return [
        RunningDelivery(id_, worker, at, tuple(sorted(handlers.get(id_, ()))), now_ms - at >= overdue_s * 1000)
        for id_, at in started_at.items()
        if now_ms - at >= MIN_AGE_S * 1000
    ]
