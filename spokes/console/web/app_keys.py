"""What the console's process holds while it runs. Rule: opened in `app`, closed there, found here by its key."""

from typing import Final

from aiohttp import web
from jinja2 import Environment
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.accounts.sessions import Sessions
from spokes.console.accounts.users import Users
from spokes.console.identity.provider import Provider
from spokes.core.settings import Settings

SETTINGS: Final = web.AppKey("settings", Settings)
REDIS: Final = web.AppKey("redis", Redis)
ENGINE: Final = web.AppKey("engine", AsyncEngine)  # the audit store; whether it is migrated is for the asker to see
SESSIONS: Final = web.AppKey("sessions", Sessions)
USERS: Final = web.AppKey("users", Users)
PROVIDER: Final = web.AppKey[Provider | None]("provider")  # of identities; None where OIDC_ISSUER names none
TEMPLATES: Final = web.AppKey("templates", Environment)
BEHIND_WEB_PROCESS: Final = web.AppKey("behind_web", bool)  # on a socket, where our own web process says who asks
