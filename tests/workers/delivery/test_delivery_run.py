"""workers.delivery.delivery_run: what is left of a finished run."""

import gc
import weakref

from redis.asyncio import Redis

from spokes.core.delivery import Delivery, Entry
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.routing import Router
from tests.support.events import event
from workers.delivery.delivery_run import DeliveryRun, postpone
from workers.delivery.settlement import Settlement
from workers.lanes.resolution import LEASE_LOST


async def test_finished_run_is_freed_without_the_garbage_collector(redis: Redis, settings: Settings) -> None:
    settlement = Settlement(redis, "one", RedisOutage())
    entries = tuple(Entry(str(number), 0, event(number)) for number in (1, 2))
    run = DeliveryRun(Delivery("50112233-1-1", 50112233, 1, entries), settlement, settings, Router())
    reference = weakref.ref(run)
    postpone(run.items, LEASE_LOST)
    await run.finished()
    await settlement.close()
    gc.disable()
    try:
        del run
        assert reference() is None
    finally:
        gc.enable()
