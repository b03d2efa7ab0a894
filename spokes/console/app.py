"""Assemble the console's web application. Every resource opened here is closed here, in reverse order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.sql.engine import open_engine
from spokes.console import pages
from spokes.console.accounts.known_browsers import KnownBrowsers
from spokes.console.accounts.seals import Seals
from spokes.console.accounts.sessions import Sessions
from spokes.console.accounts.users import Users
from spokes.console.api import routes as api_routes
from spokes.console.identity.http_client import ProviderClient
from spokes.console.identity.provider import Provider
from spokes.console.installs.install_flow import InstallFlow
from spokes.console.installs.oauth_parts import oauth_client, portal_store
from spokes.console.pages.dashboard import DASHBOARD_CACHE, DashboardCache
from spokes.console.pages.now import STOPPING, stop_streams
from spokes.console.pages.settings import DOCTOR_REPORTS, DoctorReports
from spokes.console.tolerant_redis import TolerantRedis
from spokes.console.web import install_pages, middlewares
from spokes.console.web.app_keys import (
    BEHIND_WEB_PROCESS,
    ENGINE,
    INSTALLS,
    KNOWN_BROWSERS,
    OAUTH,
    PORTAL_STORE,
    PROVIDER,
    REDIS,
    SESSIONS,
    SETTINGS,
    STRANGERS_LOG,
    TEMPLATES,
    USERS,
)
from spokes.console.web.login import login_pages, oidc_pages
from spokes.console.web.rendering import template_environment
from spokes.console.web.work_limits import WORK_LIMITS, WorkLimits
from spokes.core.background import Background
from spokes.core.masking import derive_key
from spokes.core.redis.connections import redis_pool
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.log_limit import LogLimit
from spokes.core.telemetry.metric_totals import FLUSH_EVERY_S, MetricTotals
from spokes.core.telemetry.metrics import SECURITY_EVENTS, start_at_zero
from spokes.core.telemetry.security_events import SecurityEvent

_MAX_STRANGERS_LOGGED: Final = 300  # requests a minute; metrics count those beyond it too
_MAX_BODY_BYTES: Final = 256 * 1024  # a request with 1,000 event keys has 40 kB


def create_app(settings: Settings, *, behind_web: bool = False) -> web.Application:
    """Return the console's application; `behind_web` if our own web process forwards the requests to it."""
    app = web.Application(
        middlewares=[middlewares.wrap_request, middlewares.check_access], client_max_size=_MAX_BODY_BYTES
    )
    app[SETTINGS] = settings
    app[BEHIND_WEB_PROCESS] = behind_web
    app[WORK_LIMITS] = WorkLimits()
    app[STRANGERS_LOG] = LogLimit(_MAX_STRANGERS_LOGGED)
    app[TEMPLATES] = template_environment()
    app[DASHBOARD_CACHE] = DashboardCache()
    app[STOPPING] = asyncio.Event()
    app.on_shutdown.append(stop_streams)
    app[DOCTOR_REPORTS] = DoctorReports()
    app.add_routes(
        [*login_pages.routes(), *oidc_pages.routes(), *install_pages.routes(), *pages.routes(), *api_routes.routes()]
    )
    app.cleanup_ctx.extend((_redis, _audit_store, _identity_provider, _installs, _metric_totals))
    return app


async def _redis(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    redis = app[REDIS] = TolerantRedis.from_pool(
        redis_pool(settings, max_connections=settings.redis_console_connections)
    )
    app[SESSIONS] = Sessions.from_settings(redis, settings)
    app[KNOWN_BROWSERS] = KnownBrowsers(derive_key(settings.console_key.get_secret_value(), "known browsers"))
    app[USERS] = Users(redis, Seals.from_settings(settings))
    yield
    await redis.aclose()


async def _audit_store(app: web.Application) -> AsyncIterator[None]:
    engine = app[ENGINE] = open_engine(app[SETTINGS].database_address)
    yield
    await engine.dispose()


async def _identity_provider(app: web.Application) -> AsyncIterator[None]:
    client = ProviderClient()
    app[PROVIDER] = Provider.from_settings(app[SETTINGS], client)
    yield
    await client.close()


async def _installs(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[PORTAL_STORE] = portal_store(settings, app[ENGINE])
    if not settings.hubspot_client_id:
        app[INSTALLS] = app[OAUTH] = None
        yield
        return
    client = app[OAUTH] = oauth_client(settings)
    app[INSTALLS] = InstallFlow(settings, app[REDIS], app[PORTAL_STORE], client)
    yield
    await client.close()


async def _metric_totals(app: web.Application) -> AsyncIterator[None]:
    start_at_zero(SECURITY_EVENTS, SecurityEvent)
    totals = MetricTotals(app[REDIS], "console")
    background = Background(RedisOutage(), AlertEpisodes(app[REDIS]).report_once)
    background.every(FLUSH_EVERY_S, "metric totals", totals.flush)
    yield
    await background.close()
    await totals.close()
