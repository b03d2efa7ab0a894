"""Who makes a request. Rule: an actor sees their portals only; what is not theirs is not there."""

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from aiohttp import web

from spokes.console.accounts.policy import Permission, Role, permissions_of


@unique
class AuthMethod(StrEnum):
    """By what somebody has proved who they are."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - of ours
    PROVIDER = "provider"  # a token of the identity provider


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who has proved who they are; `portals` None is all that this deployment serves."""

    name: str
    roles: frozenset[Role] = frozenset()
    portals: frozenset[int] | None = None
    auth_method: AuthMethod = AuthMethod.SESSION
    token_id: str = ""  # the token's own name, by which it can be taken back
    csrf_token: str = field(default="", repr=False)  # what forms carry; empty for API tokens

    def may(self, permission: Permission) -> bool:
        """Whether a role of theirs gives the permission."""
        return permission in permissions_of(self.roles)

    def can_see(self, portal_id: int) -> bool:
        """Whether the portal is theirs to look at."""
        return self.portals is None or portal_id in self.portals


NOBODY: Final = Actor("")
ACTOR: Final = web.RequestKey("actor", Actor)
ADDRESS: Final = web.RequestKey("console_address", str)  # where the request came from, by the rules of TRUSTED_PROXIES
REQUEST_ID: Final = web.RequestKey("console_request_id", str)
