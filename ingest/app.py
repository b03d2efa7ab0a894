"""Put the web process together. Rule: what is opened here is closed here, in reverse order."""

from collections.abc import AsyncIterator

from aiohttp import web

from core.connections import redis_client
from core.events import EventKeys
from core.masking import derive_key
from core.settings import RECEIVER_PATH, Settings
from handlers.routing import load_router
from ingest.admission import Admission
from ingest.allow_list import AllowList
from ingest.middlewares import answer
from ingest.views import ADMISSION, ALLOW_LIST, KEYS, REDIS, SETTINGS, healthz, metrics, readyz, receive


def create_app(settings: Settings) -> web.Application:
    """Return the application that `settings` ask for.

    Raises:
        ConfigurationError: HANDLERS or ALLOWED_EVENTS is wrong.
    """
    app = web.Application(middlewares=[answer], client_max_size=settings.max_body_bytes)
    app[SETTINGS] = settings
    app[ALLOW_LIST] = AllowList(load_router(settings.handlers).claims, settings.allowed_events)
    app[KEYS] = EventKeys(derive_key(settings.master_key(), "event keys"))
    app.router.add_post(RECEIVER_PATH, receive)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.cleanup_ctx.append(_redis)
    return app


async def _redis(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[REDIS] = redis_client(settings, max_connections=8)
    app[ADMISSION] = Admission(app[REDIS], keep_s=settings.dedupe_hours * 3600)
    yield
    await app[ADMISSION].close()
    await app[REDIS].aclose()
