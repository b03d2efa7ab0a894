"""Endpoints for accounts, sessions and tokens.

They concern the whole deployment, so actors who may not see all portals are refused.
"""

from dataclasses import dataclass

from aiohttp import web

from spokes.audit.records import Action
from spokes.audit.stream import append_now
from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.accounts.api_tokens import revoke
from spokes.console.accounts.policy import Role
from spokes.console.api.request_schemas import ReasonBody
from spokes.console.api.response_schemas import ActionResult
from spokes.console.operator_audit import operator_record
from spokes.console.web.app_keys import REDIS, SESSIONS, USERS
from spokes.core.errors import HttpProblem
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event


@dataclass(frozen=True, slots=True)
class Account:
    """A local account; `portals` None means all, `password` says whether one is set."""

    name: str
    roles: tuple[Role, ...]
    portals: tuple[int, ...] | None
    password: bool


async def get_users(request: web.Request, _: None) -> tuple[Account, ...]:
    """Return all accounts."""
    _require_all_portals(request)
    return tuple(
        Account(
            user.name, tuple(sorted(user.roles)), None if user.portals is None else tuple(sorted(user.portals)),
            bool(user.password_hash),
        )
        for user in await request.app[USERS].all()
    )  # fmt: skip


async def end_sessions(request: web.Request, body: ReasonBody) -> ActionResult:
    """End every session of an account; the count may be 0."""
    name = request.match_info["name"]
    _require_all_portals(request)
    actor, address = request[ACTOR].name, request[ADDRESS]
    ended = await request.app[SESSIONS].end_all(name)
    if ended:
        detail = {"user": name, "count": ended}
        record = operator_record(Action.SESSIONS_ENDED, detail, actor=actor, address=address, reason=body.reason)
        await append_now(request.app[REDIS], record)
        log_security_event(SecurityEvent.SESSION_REVOKED, user=name, count=ended, actor=actor, from_address=address)
    return ActionResult(ended)


async def revoke_token(request: web.Request, body: ReasonBody) -> ActionResult:
    """Revoke a token."""
    token_id = request.match_info["id"]
    _require_all_portals(request)
    actor, address = request[ACTOR].name, request[ADDRESS]
    record = operator_record(
        Action.TOKEN_REVOKED, {"token_id": token_id}, actor=actor, address=address, reason=body.reason
    )
    await revoke(request.app[REDIS], token_id, record)
    log_security_event(SecurityEvent.TOKEN_REVOKED, token_id=token_id, actor=actor, from_address=address)
    return ActionResult(1)


def _require_all_portals(request: web.Request) -> None:
    if request[ACTOR].portals is not None:
        raise HttpProblem(403, "not_permitted", "This concerns all portals, and you may see only some.")
