"""What a handler declares about its runs: time-out, retries and on which errors, how many, how often. Pure."""

import math
import re
from typing import Final, NamedTuple

_MAX_TIMEOUT_S: Final = 86_400.0
_MAX_RETRIES: Final = 50
_MAX_RETRY_S: Final = 30 * 86_400.0
_MAX_CONCURRENCY: Final = 10_000
_RATE: Final = re.compile(r"([1-9]\d{0,5})/(s|min|h)", re.ASCII)
_PERIODS_MS: Final = {"s": 1_000, "min": 60_000, "h": 3_600_000}


class Rate(NamedTuple):
    """At most `starts` starts in any `period_ms` milliseconds."""

    starts: int
    period_ms: int


class RunLimits(NamedTuple):
    """Limits of a handler's runs; None where the deployment's settings hold, or nothing limits it.

    `retries` are the longest delays before each retry, in seconds.
    """

    timeout_s: float | None = None
    retries: tuple[float, ...] | None = None
    concurrency: int | None = None
    rate: Rate | None = None


NO_LIMITS: Final = RunLimits()


def read_run_limits(
    timeout_s: object, retries: object, concurrency: object, rate: object
) -> tuple[RunLimits, tuple[str, ...]]:
    """Return the valid limits, and one sentence for each fault."""
    faults: list[str] = []
    if timeout_s is not None and not _is_number(timeout_s, _MAX_TIMEOUT_S):
        faults.append("`timeout_s` takes seconds, more than 0 and up to 86400. Write timeout_s=30.")
        timeout_s = None
    if retries is not None and not _is_schedule(retries):
        faults.append(
            "`retries` takes a tuple of up to 50 delays in seconds, each more than 0: one for each retry. Write "
            "retries=(1, 10, 60), or retries=() for none."
        )
        retries = None
    is_count = isinstance(concurrency, int) and not isinstance(concurrency, bool)
    if concurrency is not None and not (is_count and 1 <= concurrency <= _MAX_CONCURRENCY):  # type: ignore[operator]  # `is_count` has checked it
        faults.append("`concurrency` takes a whole number of runs at a time, from 1 to 10000. Write concurrency=2.")
        concurrency = None
    match = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    if rate is not None and match is None:
        faults.append(
            '`rate` takes starts per second, minute or hour. Write rate="10/s", rate="100/min" or rate="5/h".'
        )
    limits = RunLimits(
        None if timeout_s is None else float(timeout_s),  # type: ignore[arg-type]  # checked above
        None if retries is None else tuple(float(delay) for delay in retries),  # type: ignore[attr-defined]  # as above
        concurrency,  # type: ignore[arg-type]  # as above
        Rate(int(match[1]), _PERIODS_MS[match[2]]) if match else None,
    )
    return limits, tuple(faults)


def read_retried_exceptions(declared: object) -> tuple[tuple[type[Exception], ...], tuple[str, ...]]:
    """Return the exceptions that `retry_on` names, and one sentence for each fault."""
    if not isinstance(declared, tuple | list):
        return (), ("`retry_on` takes a tuple of exception classes. Write retry_on=(MyError,), with the comma.",)
    exceptions: list[type[Exception]] = []
    faults: list[str] = []
    for member in declared:
        if isinstance(member, type) and issubclass(member, Exception):
            exceptions.append(member)
        else:
            is_class = isinstance(member, type)
            name = member.__name__ if is_class else f"an object of {type(member).__name__}"
            kind = "no subclass of Exception" if is_class else "no class"
            faults.append(f"`retry_on` names {name}, which is {kind}. Write retry_on=(MyError,).")
    return tuple(exceptions), tuple(faults)


def _is_number(value: object, highest: float) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= highest and math.isfinite(value)
    )


def _is_schedule(value: object) -> bool:
    is_list = isinstance(value, tuple | list) and len(value) <= _MAX_RETRIES
    return is_list and all(_is_number(delay, _MAX_RETRY_S) for delay in value)  # type: ignore[attr-defined]  # `is_list` has checked it
