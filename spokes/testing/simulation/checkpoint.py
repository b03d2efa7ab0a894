"""The state of HubSpot and Redis at one point of a test, to which the test can return."""

import copy
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from spokes.simulator.app import Simulator
from spokes.simulator.crm.store import CrmStore
from spokes.simulator.portal import Portal


@dataclass(frozen=True, slots=True)
class StateCopy:
    """Copies of the accounts' records by portal id, the state of their random numbers, and Redis' keys."""

    stores: dict[int, CrmStore]
    random_states: dict[int, Any]
    keys: dict[bytes, tuple[bytes, int]]

    @classmethod
    async def take(cls, simulator: Simulator, redis: Redis) -> "StateCopy":
        """Copy the present state."""
        portals = simulator.portals
        stores = {portal_id: _copied(portal) for portal_id, portal in portals.items()}
        states = {portal_id: portal._rng.getstate() for portal_id, portal in portals.items()}  # noqa: SLF001 - a copy needs all
        keys: dict[bytes, tuple[bytes, int]] = {}
        for key in await redis.keys("*"):
            content = await redis.dump(key)
            if content is not None:
                keys[key] = (content, max(0, await redis.pttl(key)))
        return cls(stores, states, keys)

    async def restore(self, simulator: Simulator, redis: Redis) -> None:
        """Return to the copied state, any number of times."""
        for portal_id, portal in simulator.portals.items():
            portal.crm = self.stores[portal_id]
            portal.crm = _copied(portal)
            portal._rng.setstate(self.random_states[portal_id])  # noqa: SLF001 - as above
        await redis.flushall()
        for key, (content, expires_ms) in self.keys.items():
            await redis.restore(key, expires_ms, content)


def _copied(portal: Portal) -> CrmStore:
    """Return a copy of a portal's records; what the store shares with its portal stays shared."""
    shared: list[object] = [portal, portal.config, portal._clock, portal._rng]  # noqa: SLF001 - as above
    return copy.deepcopy(portal.crm, {id(each): each for each in shared})
