"""Who may do what, as one matrix. Rule: what no route declares is allowed to nobody."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum, unique
from typing import Final, TypeAlias

from aiohttp import web

RouteHandler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@unique
class Role(StrEnum):
    """What somebody is here; one may be several."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    PRIVACY_OFFICER = "privacy_officer"
    ADMIN = "admin"


@unique
class Permission(StrEnum):
    """What a role may do."""

    LOOK = "look"  # queue, lag, deliveries, events, timelines, dead letters, budget, pauses: names and ids, no values
    AUDIT = "audit"  # query the audit and verify its chain
    EXPORT = "export"  # carry the audit away
    SETTLE = "settle"  # replay and discard dead letters
    PAUSE = "pause"  # let a portal's work wait, and go on
    PRIVACY = "privacy"  # the requests of people, with whom they are about
    REVEAL = "reveal"  # see a masked value, with a reason
    SETTINGS = "settings"  # what doctor finds
    USERS = "users"  # who has an account; end their sessions


@unique
class PublicAccess(StrEnum):
    """What a route may ask for that is no permission."""

    ANYONE = "anyone"  # before a login
    SIGNED_IN = "signed_in"  # whatever the role


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
    Permission.PRIVACY:  (_,     _,        X,               X),
    Permission.REVEAL:   (_,     _,        X,               X),
    Permission.SETTINGS: (_,     X,        _,               X),
    Permission.USERS:    (_,     _,        _,               X),
}  # fmt: skip

_RULES: Final[dict[object, AccessRule]] = {}


def permissions_of(roles: Iterable[Role]) -> frozenset[Permission]:
    """Return what somebody with these roles may do."""
    columns = [_ROLE_COLUMNS.index(role) for role in roles]
    return frozenset(permission for permission, row in MATRIX.items() if any(row[column] for column in columns))


def requires(rule: AccessRule) -> Callable[[RouteHandler], RouteHandler]:
    """Decorate a route's handler with who may call it."""

    def declare(handler: RouteHandler) -> RouteHandler:
        _RULES[handler] = rule
        return handler

    return declare


def policy_of(handler: object) -> AccessRule | None:
    """Return what a handler was declared with; None is nobody."""
    return _RULES.get(handler)
