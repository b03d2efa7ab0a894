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
from spokes.simulator.api.oauth_endpoints import OAuthServer
from spokes.simulator.api.request_log import RequestLog
from spokes.simulator.changes import Change
from spokes.simulator.clock import Clock
from spokes.simulator.config import OAUTH_LIMITS, PortalConfig, SimulatorConfig, Subscription
from spokes.simulator.control import control_routes
from spokes.simulator.crm.store import CrmStore
from spokes.simulator.journal.entries import entry_of, lifecycle_entry
from spokes.simulator.journal.server import JournalServer
from spokes.simulator.journal.subscriptions import JournalSubscriptionApi
from spokes.simulator.oauth.installs import Installs
from spokes.simulator.portal import Portal
from spokes.simulator.push_subscriptions import PushSubscriptionApi
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
        self.portals: dict[int, Portal] = {}
        self._subscriptions: dict[int, Subscriptions] = {}
        for portal in self.config.portals:
            self._add_portal(portal)
        self.portal = next(iter(self.portals.values()))
        self.installs = Installs(
            self.config.oauth, self.config.client_secret, self.clock, Random(f"{self.config.seed} oauth")
        )
        self.journal = JournalServer(
            self.config.journal, self.clock, Random(f"{self.config.seed} journal"), lambda: self.url
        )
        self.journal_subscriptions = JournalSubscriptionApi(
            self.config.journal, self.portal.config.app_id, self.clock, self.journal.scopes_of
        )
        self.installs.report_lifecycle = self._submit_lifecycle
        self.oauth = OAuthServer(self.installs, self.portals, self.journal.issue_token)
        self.push_api = PushSubscriptionApi(
            self.config.developer_key, self.portal.config.app_id, self._subscriptions, self.clock
        )
        self.gateway = Gateway(
            self.portals,
            self.installs,
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

    def add_portal(self, portal_id: int, subscriptions: tuple[Subscription, ...] = ()) -> Portal:
        """Add an account without a private app, which can install the app by OAuth; an existing one is returned."""
        if portal_id not in self.portals:
            first = self.portal.config
            self._add_portal(
                PortalConfig(
                    portal_id,
                    app_id=first.app_id,
                    token="",
                    limits=OAUTH_LIMITS,
                    has_standard_properties=first.has_standard_properties,
                    properties=first.properties,
                    subscriptions=subscriptions,
                )
            )
        return self.portals[portal_id]

    def reset(self) -> None:
        """Empty every CRM, log and queue; keep subscriptions, installs and the target."""
        self.sender.discard_all()
        self.requests.clear()
        self.deliveries.clear()
        self.faults.clear()
        self.journal.store.clear()
        for portal in self.portals.values():
            portal.clear_crm()
            portal.limiter.reset()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            await self.sender.open()
            opening.push_async_callback(self.sender.close)
            app = web.Application(client_max_size=_MAX_BODY_BYTES)
            app.add_routes(control_routes(self))
            app.add_routes(self.gateway.oauth_routes(self.oauth.routes()))
            app.add_routes(self.gateway.oauth_routes(self.push_api.routes()))
            app.add_routes(self.gateway.oauth_routes(self.journal.routes()))
            app.add_routes(self.gateway.oauth_routes(self.journal_subscriptions.routes()))
            app.add_routes(self.gateway.routes((*ENDPOINTS, self.oauth.uninstall_endpoint())))
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

    def _add_portal(self, config: PortalConfig) -> None:
        portal_id = config.portal_id
        self.portals[portal_id] = Portal(config, self.clock, self._rng(portal_id, "crm"), self._submit_change)
        self._subscriptions[portal_id] = Subscriptions(config, self._rng(portal_id, "events"))

    def _submit_change(self, portal: Portal, change: Change) -> None:
        portal_id = portal.config.portal_id
        if not portal.token_states and portal_id not in self.installs.portals:
            return  # the account has neither a private app nor ours
        subscriptions = self._subscriptions[portal_id]
        self.sender.submit(portal_id, subscriptions.build_elements(change))
        if subscriptions.is_reported(change):
            entry = entry_of(portal_id, change, subscriptions.shown_value(change))
            if entry is not None:
                self.journal.store.add(entry)

    def _submit_lifecycle(self, portal_id: int, action: str) -> None:
        app_id = self.portal.config.app_id
        self.journal.store.add(lifecycle_entry(portal_id, app_id, action, self.clock.now_ms()))

    def _rng(self, portal_id: int, part: str) -> Random:
        return Random(f"{self.config.seed} {portal_id} {part}")
