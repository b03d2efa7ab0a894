"""Roles, permissions, and the matrix that grants them. A route without an access rule is refused to everybody."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum, unique
from typing import Final, TypeAlias

from aiohttp import web

RouteHandler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@unique
class Role(StrEnum):
    """A role of an actor; an actor may have several."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    PRIVACY_OFFICER = "privacy_officer"
    ADMIN = "admin"


@unique
class Permission(StrEnum):
    """A permission that a route requires and a role grants."""

    LOOK = "look"  # queue, lag, deliveries, events, timelines, dead letters, budget, pauses: names and ids, no values
    AUDIT = "audit"  # query the audit and verify its chain
    EXPORT = "export"  # export the audit
    SETTLE = "settle"  # replay and discard dead letters
    PAUSE = "pause"  # pause and resume the work of a portal
    CONFIGURE = "configure"  # change what is different for a portal: handlers, event types, own settings
    DISCONNECT = "disconnect"  # uninstall the app from a portal
    PRIVACY = "privacy"  # requests of data subjects, with the persons concerned
    REVEAL = "reveal"  # see masked values; needs a reason
    SETTINGS = "settings"  # the findings of doctor
    USERS = "users"  # list accounts; end sessions, revoke tokens


@unique
class PublicAccess(StrEnum):
    """Access rules other than a permission."""

    ANYONE = "anyone"  # without a login
    SIGNED_IN = "signed_in"  # any role


AccessRule: TypeAlias = Permission | PublicAccess

_, X = False, True
_ROLE_COLUMNS: Final = (Role.VIEWER, Role.OPERATOR, Role.PRIVACY_OFFICER, Role.ADMIN)
MATRIX: Final[Mapping[Permission, tuple[bool, bool, bool, bool]]] = {
    #                    viewer  operator  privacy officer  admin
    Permission.LOOK:     (X,     X,        X,               X),
    Permission.AUDIT:    (X,     X,        X,               X),
    Permission.EXPORT:   (_,     X,        X,               X),
    Permission.SETTLE:   (_,     X,        _,               X),
    Permission.PAUSE:    (_,     X,        _,               X),
    Permission.CONFIGURE: (_,    X,        _,               X),
    Permission.DISCONNECT: (_,   _,        _,               X),
    Permission.PRIVACY:  (_,     _,        X,               X),
    Permission.REVEAL:   (_,     _,        X,               X),
    Permission.SETTINGS: (_,     X,        _,               X),
    Permission.USERS:    (_,     _,        _,               X),
}  # fmt: skip

_RULES: Final[dict[object, AccessRule]] = {}


def permissions_of(roles: Iterable[Role]) -> frozenset[Permission]:
    """Return the permissions that these roles grant."""
    columns = [_ROLE_COLUMNS.index(role) for role in roles]
    return frozenset(permission for permission, row in MATRIX.items() if any(row[column] for column in columns))


def requires(rule: AccessRule) -> Callable[[RouteHandler], RouteHandler]:
    """Declare the access rule of a route's handler."""

    def declare(handler: RouteHandler) -> RouteHandler:
        _RULES[handler] = rule
        return handler

    return declare


def policy_of(handler: object) -> AccessRule | None:
    """Return the declared access rule of a handler; None refuses everybody."""
    return _RULES.get(handler)
