"""`Actor`: who makes a request, with roles and visible portals. Objects of other portals are a 404."""

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from aiohttp import web

from spokes.console.accounts.policy import Permission, Role, permissions_of


@unique
class AuthMethod(StrEnum):
    """How an actor proved their identity."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a kind of token, not a secret
    PROVIDER = "provider"  # a token issued by the identity provider


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or program that proved its identity; `portals` None means all that this deployment serves."""

    name: str
    roles: frozenset[Role] = frozenset()
    portals: frozenset[int] | None = None
    auth_method: AuthMethod = AuthMethod.SESSION
    token_id: str = ""  # the `jti` claim, by which the token can be revoked
    csrf_token: str = field(default="", repr=False)  # sent with every form; empty for API tokens

    def may(self, permission: Permission) -> bool:
        """Return whether one of the actor's roles grants the permission."""
        return permission in permissions_of(self.roles)

    def can_see(self, portal_id: int) -> bool:
        """Return whether the actor may see the portal."""
        return self.portals is None or portal_id in self.portals


NOBODY: Final = Actor("")
ACTOR: Final = web.RequestKey("actor", Actor)
ADDRESS: Final = web.RequestKey("console_address", str)  # the client's address, behind TRUSTED_PROXIES
IS_HTTPS: Final = web.RequestKey("console_is_https", bool)  # between the browser and the outermost proxy
REQUEST_ID: Final = web.RequestKey("console_request_id", str)
