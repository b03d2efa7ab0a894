"""Typed keys of the application's shared objects. `spokes.console.app` opens and closes them."""

from typing import Final

from aiohttp import web
from jinja2 import Environment
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.accounts.known_browsers import KnownBrowsers
from spokes.console.accounts.sessions import Sessions
from spokes.console.accounts.users import Users
from spokes.console.identity.provider import Provider
from spokes.console.installs.install_flow import InstallFlow
from spokes.core.settings import Settings
from spokes.core.telemetry.log_limit import LogLimit
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.store import PortalStore

SETTINGS: Final = web.AppKey("settings", Settings)
REDIS: Final = web.AppKey("redis", Redis)
ENGINE: Final = web.AppKey("engine", AsyncEngine)  # the audit store, which may not be migrated yet
SESSIONS: Final = web.AppKey("sessions", Sessions)
KNOWN_BROWSERS: Final = web.AppKey("known_browsers", KnownBrowsers)
USERS: Final = web.AppKey("users", Users)
PROVIDER: Final = web.AppKey[Provider | None]("provider")  # the identity provider; None without OIDC_ISSUER
INSTALLS: Final = web.AppKey[InstallFlow | None]("installs")  # installs by OAuth; None without HUBSPOT_CLIENT_ID
OAUTH: Final = web.AppKey[OAuthClient | None]("oauth")  # of the same app; None without HUBSPOT_CLIENT_ID
PORTAL_STORE: Final = web.AppKey("portal_store", PortalStore)
TEMPLATES: Final = web.AppKey("templates", Environment)
STRANGERS_LOG: Final = web.AppKey("strangers_log", LogLimit)  # of requests without an account
BEHIND_WEB_PROCESS: Final = web.AppKey("behind_web", bool)  # our web process forwards requests and client addresses
