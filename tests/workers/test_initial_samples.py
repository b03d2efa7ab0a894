"""Counters of a worker that exist before the first event."""

from redis.asyncio import Redis

from spokes import Event, Router
from spokes.core.errors import InvalidRequest, ObjectNotFound
from spokes.core.redis.keys import METRIC_TOTALS
from spokes.core.telemetry.metric_totals import MetricTotals, sample_key
from spokes.core.telemetry.metrics import CRM_CALLS, OUTCOMES, UNSUCCESSFUL_RUNS
from workers.initial_samples import dead_reasons, start_counters
from workers.lanes.resolution import reason_for_error


async def zero_counted_handler(event: Event, tools: object) -> None:
    """Do nothing."""


async def test_counters_of_handlers_reasons_and_calls_are_stored_as_zero(redis: Redis) -> None:
    router = Router()
    router.register("ticket.creation")(zero_counted_handler)
    start_counters(router)
    await MetricTotals(redis, "worker").flush()
    (name,) = {route.name for _, route in router}
    stored = await redis.hmget(
        METRIC_TOTALS,
        sample_key(OUTCOMES, handler=name, outcome="dead"),
        sample_key(OUTCOMES, handler=name, outcome="retried"),
        sample_key(UNSUCCESSFUL_RUNS, outcome="dead", reason="crash_loop"),
        sample_key(CRM_CALLS, method="DELETE", outcome="portal_moving"),
    )
    assert (stored[0], stored[1], None in stored) == (b"0", b"0", False)


def test_reasons_of_dead_letters_include_those_of_errors_and_of_workers() -> None:
    reasons = {reason_for_error(error).partition(":")[0] for error in (ValueError(), TimeoutError())}
    reasons |= {InvalidRequest.reason, ObjectNotFound.reason, "no_handler", "handler_stuck", "internal_error"}
    assert reasons <= dead_reasons()
    assert "own_write" not in dead_reasons()
