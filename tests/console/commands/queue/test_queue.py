"""`queue`."""

import json

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.redis import keys
from spokes.queue.held_deliveries import ALL_CALLS
from spokes.queue.running_deliveries import RunningDelivery, publish_running, running_deliveries
from tests.support.command_line import spokes


async def test_delivery_in_progress_is_shown_with_age_and_handler(environ: dict[str, str], redis: Redis) -> None:
    run = RunningDelivery("7-1-a", "host:1", clock.now_ms() - 20_000, ("deals.slow",), is_overdue=False)
    await publish_running(redis, "host:1", [run])
    result = spokes(environ, "queue", "--json")
    counts, row = map(json.loads, result.stdout.splitlines())
    assert (result.returncode, counts["in_progress"], row["handlers"]) == (0, 1, ["deals.slow"])
    assert 20 <= row["age_s"] < 60


async def test_overdue_delivery_is_exit_code_1(environ: dict[str, str], redis: Redis) -> None:
    run = RunningDelivery("7-1-a", "host:1", clock.now_ms() - 900_000, ("deals.slow",), is_overdue=True)
    await publish_running(redis, "host:1", [run])
    result = spokes(environ, "queue")
    assert (result.returncode, "deals.slow" in result.stdout, "Restart" in result.stderr) == (1, True, True)


async def test_worker_without_long_deliveries_publishes_nothing(redis: Redis) -> None:
    run = RunningDelivery("7-1-a", "host:1", clock.now_ms(), (), is_overdue=False)
    await publish_running(redis, "host:1", [run])
    await publish_running(redis, "host:1", [])
    assert await running_deliveries(redis) == []


async def test_held_deliveries_are_counted_by_their_pause(environ: dict[str, str], redis: Redis) -> None:
    await redis.zadd(keys.held_deliveries(7, ALL_CALLS), {"7-1-a": 1, "7-2-a": 1})
    await redis.sadd(keys.HELD_SETS, f"7:{ALL_CALLS}")
    shown, as_json = spokes(environ, "queue"), spokes(environ, "queue", "--json")
    assert "portal 7: 2 of those scheduled wait for the end of a pause of the portal" in shown.stdout
    assert json.loads(as_json.stdout)["held"] == [{"portal_id": 7, "kind": "all", "deliveries": 2}]
