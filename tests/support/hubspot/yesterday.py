"""A simulated HubSpot whose clock is in the last settled day."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from spokes.backfill.reconciliation import newest_settled_day
from spokes.core import clock
from spokes.simulator.app import Simulator
from spokes.simulator.changes import ChangeSource
from spokes.simulator.clock import Clock
from spokes.simulator.config import Limits, PortalConfig, SimulatorConfig
from spokes.simulator.crm.records import CrmRecord
from tests.support.deployment import TOKEN

PERSON = ChangeSource("CRM_UI", "userId:1")
_NOON_MS = 12 * 3_600_000


class YesterdayClock(Clock):
    """A clock that starts at noon of that day."""

    def __init__(self) -> None:
        super().__init__()
        now = clock.now_ms()
        self._behind_ms = now - newest_settled_day(now).since - _NOON_MS

    def now_ms(self) -> int:
        """Milliseconds since the epoch, a day ago."""
        return super().now_ms() - self._behind_ms


@asynccontextmanager
async def hubspot_of_yesterday() -> AsyncIterator[Simulator]:
    """Yield a simulator whose changes all lie in that day."""
    limits = Limits(ten_secondly=100_000, search_secondly=100_000)
    config = SimulatorConfig(portals=(PortalConfig(token=TOKEN, limits=limits),))
    async with Simulator(config, clock=YesterdayClock()) as simulator:
        yield simulator


def create_contacts(hubspot: Simulator, count: int) -> list[CrmRecord]:
    """Create contacts with an address and a number."""
    type_ = hubspot.crm.types.resolve("contacts")
    return [
        hubspot.crm.create(type_, {"email": f"c{number}@example.org", "phone": str(number)}, PERSON)
        for number in range(count)
    ]
