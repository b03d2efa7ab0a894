"""spokes.run_limits: what a handler may declare about its runs, and the sentence for everything else."""

from typing import Any

import pytest

from spokes.core.errors import ConfigurationError
from spokes.routing import Router, uses
from spokes.run_limits import NO_LIMITS, Rate, RunLimits, read_retried_exceptions, read_run_limits


def test_nothing_declared_limits_nothing() -> None:
    assert read_run_limits(None, None, None, None) == (NO_LIMITS, ())


def test_declared_limits_are_read() -> None:
    limits, faults = read_run_limits(30, (1, 2.5), 2, "10/s")
    assert (limits, faults) == (RunLimits(30.0, (1.0, 2.5), 2, Rate(10, 1000)), ())


def test_empty_retries_mean_none() -> None:
    assert read_run_limits(None, (), None, None)[0].retries == ()


@pytest.mark.parametrize(("rate", "period_ms"), [("1/s", 1000), ("100/min", 60_000), ("5/h", 3_600_000)])
def test_rate_has_one_of_three_periods(rate: str, period_ms: int) -> None:
    limits, _ = read_run_limits(None, None, None, rate)
    assert limits.rate is not None
    assert limits.rate.period_ms == period_ms


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("timeout_s", value) for value in (0, -1, "30", True, float("nan"), float("inf"), 86_401)),
        *(("retries", value) for value in (5, "1,2", (0,), (1, "2"), (1, None), (float("inf"),), (1.0,) * 51)),
        *(("concurrency", value) for value in (0, -1, 1.5, "2", True, 10_001)),
        *(("rate", value) for value in (10, "10", "0/s", "10/m", "10 / s", "1.5/s", "-1/s", "", "٣/s")),
    ],
)
def test_wrong_limit_is_refused_with_its_place_and_what_to_write(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"test_run_limits\.py:\d+: `{name}` takes .* Write {name}="):
        uses(**{name: value})


def test_longest_timeout_of_a_router_is_known() -> None:
    router = Router()
    assert router.longest_timeout_s == 0
    for event_type, timeout_s in (("contact.creation", 5.0), ("deal.creation", 120.0)):

        async def handler(event: object, tools: object) -> None:
            del event, tools

        handler.__name__ = event_type.partition(".")[0]
        router.register(event_type)(uses(timeout_s=timeout_s)(handler))
    assert router.longest_timeout_s == 120


def test_exceptions_to_retry_on_are_read() -> None:
    assert read_retried_exceptions((LookupError, OSError)) == ((LookupError, OSError), ())


@pytest.mark.parametrize(
    "value", [LookupError, "LookupError", (LookupError(),), (KeyboardInterrupt,), (int,), ("LookupError",), None]
)
def test_anything_but_exceptions_to_retry_on_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"test_run_limits\.py:\d+: `retry_on` .* Write retry_on="):
        uses(retry_on=value)
