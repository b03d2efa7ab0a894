"""The simulator as one async context manager, which closes what it opened in reverse order.

async with Simulator(SimulatorConfig(...)) as sim:
    sim.url                                   # the value for HUBSPOT_API_URL
    contact = sim.crm.create(...)             # a change by a user; sends events if subscribed
    await sim.sender.wait_until_drained()
"""

from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Self

from aiohttp import web

from spokes.simulator.api.endpoints import ENDPOINTS
from spokes.simulator.api.faults import Faults
from spokes.simulator.api.gateway import Gateway
from spokes.simulator.api.request_log import RequestLog
from spokes.simulator.changes import Change
from spokes.simulator.clock import Clock
from spokes.simulator.config import SimulatorConfig
from spokes.simulator.control import control_routes
from spokes.simulator.crm.store import CrmStore
from spokes.simulator.portal import Portal
from spokes.simulator.rate_limits import RateLimiter
from spokes.simulator.webhooks.delivery_log import DeliveryLog
from spokes.simulator.webhooks.sender import Sender
from spokes.simulator.webhooks.subscriptions import Subscriptions

_MAX_BODY_BYTES = 64 * 1024 * 1024  # bytes; a batch of 100 may hold 65,536 characters a property


class Simulator:
    """A simulated HubSpot that serves its API on `url` and sends deliveries to its target.

    `crm`, `limiter` and `subscriptions` belong to the first portal; `portals` maps portal ids to all portals.
    """

    def __init__(self, config: SimulatorConfig | None = None, *, clock: Clock | None = None) -> None:
        self.config = config or SimulatorConfig()
        self.clock = clock or Clock(speed=self.config.speed)
        self.requests = RequestLog(self.config.history)
        self.deliveries = DeliveryLog(self.config.history)
        # Each component has its own random generator, so that its draws do not depend on the other components.
        self.faults = Faults(Random(f"{self.config.seed} faults"))
        self.sender = Sender(
            self.config.sender,
            client_secret=self.config.client_secret,
            target=self.config.target,
            clock=self.clock,
            rng=Random(f"{self.config.seed} sender"),
            deliveries=self.deliveries,
        )
        self.portals = {
            portal.portal_id: Portal(portal, self.clock, self._rng(portal.portal_id, "crm"), self._submit_change)
            for portal in self.config.portals
        }
        self.portal = next(iter(self.portals.values()))
        self._subscriptions = {
            portal.portal_id: Subscriptions(portal, self._rng(portal.portal_id, "events"))
            for portal in self.config.portals
        }
        self.gateway = Gateway(
            self.portals.values(),
            clock=self.clock,
            faults=self.faults,
            requests=self.requests,
            latency=self.config.latency,
            rng=Random(f"{self.config.seed} gateway"),
        )
        self._port = self.config.port
        self._exit_stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """The address of the API and the control endpoints."""
        return f"http://{self.config.host}:{self._port}"

    @property
    def crm(self) -> CrmStore:
        """The first portal's CRM."""
        return self.portal.crm

    @property
    def limiter(self) -> RateLimiter:
        """The first portal's limits."""
        return self.portal.limiter

    @property
    def subscriptions(self) -> Subscriptions:
        """The first portal's subscriptions."""
        return self.subscriptions_of(self.portal)

    def subscriptions_of(self, portal: Portal) -> Subscriptions:
        """One portal's subscriptions."""
        return self._subscriptions[portal.config.portal_id]

    def reset(self) -> None:
        """Empty every CRM, log and queue; keep subscriptions and the target."""
        self.sender.discard_all()
        self.requests.clear()
        self.deliveries.clear()
        self.faults.clear()
        for portal in self.portals.values():
            portal.clear_crm()
            portal.limiter.reset()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            await self.sender.open()
            opening.push_async_callback(self.sender.close)
            app = web.Application(client_max_size=_MAX_BODY_BYTES)
            app.add_routes(control_routes(self))
            app.add_routes(self.gateway.routes(ENDPOINTS))
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            opening.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, self.config.host, self.config.port, backlog=1024)
            await site.start()
            self._port = runner.addresses[0][1]
            self._exit_stack = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit_stack.aclose()

    def _submit_change(self, portal: Portal, change: Change) -> None:
        portal_id = portal.config.portal_id
        self.sender.submit(portal_id, self._subscriptions[portal_id].build_elements(change))

    def _rng(self, portal_id: int, part: str) -> Random:
        return Random(f"{self.config.seed} {portal_id} {part}")
