"""A Redis key that holds another type of value costs its own item alone: every other event runs."""

from collections.abc import Iterator

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.core.events import Event
from spokes.core.redis import budget_keys, keys
from tests.workers.conftest import RunAll
from tests.workers.harness import KEYS, PORTAL, change


@pytest.fixture(autouse=True)
def _captured_logs() -> Iterator[None]:
    """Format no tracebacks: without our log set-up that takes seconds for each."""
    with capture_logs():
        yield


EVENTS = tuple(change("x", number, "ok", number) for number in (1, 2, 3))
KEY = KEYS(Event(EVENTS[0]))
OBJECT: dict[str, str] = {
    "lane": keys.lane(PORTAL, "contact", "1"),
    "newest": keys.newest_timestamps(PORTAL, "contact", "1"),
    "merged": keys.surviving_id(PORTAL, "contact", "1"),
}
# Keys beside the event's own: without them it runs all the same.
INDEXES: dict[str, str] = {
    "dead": keys.dead_letters_by_time(PORTAL),
    "causes": keys.dead_letter_causes(PORTAL),
    "portals": keys.PORTALS,
    "deaths": keys.crash_count(PORTAL, KEY),
    "letter": keys.dead_letter(PORTAL, KEY),
    "merges": keys.has_merges(PORTAL),
    "rounds": keys.rewrite_loops(PORTAL, "contact", "1"),
    "once": keys.once_effects(PORTAL, "contact", "1"),
    "missing": keys.missing_object_letters(PORTAL, "contact", "1"),
    "budget": budget_keys.rate_budget(PORTAL),
    "slots": budget_keys.rate_budget_slots(PORTAL, "calls"),
    "queues": budget_keys.rate_budget_queues(PORTAL, "calls"),
    "running": keys.RUNNING_DELIVERIES,
    "quarantined": keys.quarantine_index(PORTAL),
    "credentials": keys.CREDENTIAL_PORTALS,
    "parked": keys.parked_deliveries(PORTAL),
    "tokens": keys.token_reports(PORTAL),
    "erased": keys.ERASED_HASHES,
    "registrations": keys.REGISTRATIONS,
    "metrics": keys.METRIC_TOTALS,
    "gauges": keys.METRIC_GAUGES,
    "history": keys.METRIC_HISTORY,
    "processes": keys.LIVE_PROCESSES,
    "budgets": keys.BUDGET_PORTALS,
    "health": keys.WORKER_HEALTH,
    "alerts": keys.ALERTS_ACTIVE,
    "outbox": keys.ALERT_OUTBOX,
    "secrets": keys.SECRETS_FIRST_SEEN,
}


async def plant(redis: Redis, name: str) -> None:
    """Store a list, which none of these keys is, or a text where a list belongs."""
    await redis.delete(name)
    if name in {keys.METRIC_HISTORY, keys.ALERT_OUTBOX}:
        await redis.set(name, "text")
    else:
        await redis.rpush(name, "text")  # type: ignore[misc]  # redis-py types one class for sync and async


def final(outcomes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(outcome for outcome in outcomes if outcome[0] not in {"parked", "retried"})


@pytest.mark.parametrize("name", OBJECT)
async def test_key_of_an_object_costs_the_events_of_that_object_alone(redis: Redis, run_all: RunAll, name: str) -> None:
    await plant(redis, OBJECT[name])
    await redis.set(keys.has_merges(PORTAL), 1)
    outcomes = await run_all(*EVENTS)
    assert final(outcomes) == [("dead", "internal_error"), ("processed", ""), ("processed", "")]
    assert "parked" not in {outcome for outcome, _ in outcomes}


@pytest.mark.parametrize("name", INDEXES)
async def test_key_beside_the_events_costs_no_event(redis: Redis, run_all: RunAll, name: str) -> None:
    await plant(redis, INDEXES[name])
    assert final(await run_all(*EVENTS)) == [("processed", "")] * 3


@pytest.mark.parametrize("name", ["dead", "causes", "portals", "letter", "missing", "alerts", "outbox", "metrics"])
async def test_index_that_cannot_be_written_keeps_no_event_from_its_end(
    redis: Redis, run_all: RunAll, name: str
) -> None:
    await plant(redis, INDEXES[name])
    outcomes = await run_all(*EVENTS, change("x", 4, "nobody", 4))
    assert final(outcomes) == [("dead", "no_handler"), *[("processed", "")] * 3]
