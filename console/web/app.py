"""Put the console's web process together. Rule: what is opened here is closed here, in reverse order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from audit.store import open_engine
from console import pages
from console.api import routes as api_routes
from console.identity.provider import Provider
from console.identity.wire import Wire
from console.pages.board import BOARDS, Boards
from console.pages.now import STOPPING, stop
from console.pages.settings import EXAMINATIONS, Examinations
from console.web import login, middlewares, oidc
from console.web.render import templates
from console.web.sessions import Sessions
from console.web.state import BEHIND_WEB, ENGINE, PROVIDER, REDIS, SESSIONS, SETTINGS, TEMPLATES, USERS
from console.web.users import Users
from core.connections import redis_client
from core.masking import derive_key
from core.settings import Settings
from core.totals import Totals

_LARGEST_BODY: Final = 256 * 1024  # bytes; a bulk of 1,000 event keys is 40 kB


def create_app(settings: Settings, *, behind_web: bool = False) -> web.Application:
    """Return the console that `settings` ask for; `behind_web` when our own web process stands in front of it."""
    app = web.Application(middlewares=[middlewares.answer, middlewares.guard], client_max_size=_LARGEST_BODY)
    app[SETTINGS] = settings
    app[BEHIND_WEB] = behind_web
    app[TEMPLATES] = templates()
    app[BOARDS] = Boards()
    app[STOPPING] = asyncio.Event()
    app.on_shutdown.append(stop)
    app[EXAMINATIONS] = Examinations()
    app.add_routes([*login.routes(), *oidc.routes(), *pages.routes(), *api_routes.routes()])
    app.cleanup_ctx.extend((_redis, _store, _identities, _totals))
    return app


async def _redis(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    redis = app[REDIS] = redis_client(settings, max_connections=10)
    app[SESSIONS] = Sessions(redis, derive_key(settings.console_key.get_secret_value(), "csrf"))
    app[USERS] = Users(redis)
    yield
    await redis.aclose()


async def _store(app: web.Application) -> AsyncIterator[None]:
    engine = app[ENGINE] = open_engine(app[SETTINGS].database_address)
    yield
    await engine.dispose()


async def _identities(app: web.Application) -> AsyncIterator[None]:
    wire = Wire()
    app[PROVIDER] = Provider.of(app[SETTINGS], wire)
    yield
    await wire.close()


async def _totals(app: web.Application) -> AsyncIterator[None]:
    totals = Totals(app[REDIS], "console")
    sharing = asyncio.create_task(totals.run())
    yield
    sharing.cancel()
    await asyncio.gather(sharing, return_exceptions=True)
    await totals.end()
