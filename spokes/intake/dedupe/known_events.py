"""Which events were admitted within the dedupe window, by any intake: read their dedupe marks, and change nothing."""

from collections.abc import Iterable
from typing import Final

import orjson
from redis.asyncio import Redis

from spokes.core.redis.keys import dedupe_marks_prefix
from spokes.core.redis.scripts import read_script
from spokes.intake.dedupe.marks import HOUR_MS, marks_and_set_numbers

_SCRIPT: Final = read_script(__file__, "mark_sets.lua", "known_events.lua")


async def known_keys(redis: Redis, portal_id: int, events: Iterable[tuple[str, int]]) -> set[str]:
    """Return the keys of events that have a dedupe mark.

    Args:
        redis: of the deployment.
        portal_id: of the events.
        events: at most a few hundred, each as its key and `occurredAt` (epoch ms).

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    keys_by_hour: dict[int, list[str]] = {}
    for key, occurred_at in events:
        keys_by_hour.setdefault(occurred_at // HOUR_MS, []).append(key)
    if not keys_by_hour:
        return set()
    args: list[str | bytes] = []
    for hour, keys in keys_by_hour.items():
        args += [dedupe_marks_prefix(portal_id, hour), orjson.dumps(marks_and_set_numbers(keys))]
    positions_by_hour = await redis.register_script(_SCRIPT)(keys=[], args=args)
    return {
        keys[position]
        for keys, positions in zip(keys_by_hour.values(), positions_by_hour, strict=True)
        for position in positions
    }
