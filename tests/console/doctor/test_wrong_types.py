"""Keys of Redis that hold another type of value: `doctor` names each of them in one finding."""

import pytest
from redis.asyncio import Redis

from spokes.console.doctor.report import run_checks
from spokes.core.redis import keys
from spokes.core.redis.key_types import FIXED_KEYS
from tests.console.doctor.breakages import PORTAL, Deployment
from tests.console.test_wrong_types import PLANTED, plant


async def findings_that_name(deployment: Deployment, *names: str) -> list[int]:
    """Return in how many findings each key is named."""
    named = [finding.figures.get("keys", ()) for finding in await run_checks(deployment.settings)]
    return [sum(name in each for each in named if isinstance(each, list)) for name in names]


@pytest.mark.parametrize("name", [
    keys.ALERTS_ACTIVE, keys.PAUSED_PORTALS, keys.PORTALS, keys.JOB_QUEUE, f"spokes:{PORTAL}:dead",
])  # fmt: skip
async def test_key_of_another_type_is_named_once(deployment: Deployment, redis: Redis, name: str) -> None:
    await redis.sadd(keys.PORTALS, PORTAL)  # type: ignore[misc]  # redis-py types one class for sync and async
    await plant(redis, name, PLANTED[name])
    assert await findings_that_name(deployment, name) == [1]


async def test_each_of_all_keys_of_another_type_is_named_once(deployment: Deployment, redis: Redis) -> None:
    names = [name for name in PLANTED if name in FIXED_KEYS]
    for name in names:
        await plant(redis, name, PLANTED[name])
    assert await findings_that_name(deployment, *names) == [1] * len(names)
