"""What an administrator's program does about people and programs: see accounts, end sessions, take tokens back.

Rule: these hold for the whole deployment, so who sees some portals only may do none of it.
"""

from dataclasses import dataclass

from aiohttp import web

from spokes.audit.records import Action
from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.accounts.api_tokens import revoke
from spokes.console.accounts.policy import Role
from spokes.console.api.request_schemas import Because
from spokes.console.api.response_schemas import Done
from spokes.console.operator_audit import act, tell
from spokes.console.web.app_keys import REDIS, SESSIONS, USERS
from spokes.core.errors import Problem
from spokes.core.telemetry.security_events import SecurityEvent, security


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody with an account here; `portals` None is all, `password` is whether they have one."""

    name: str
    roles: tuple[Role, ...]
    portals: tuple[int, ...] | None
    password: bool


async def see_users(request: web.Request, _: None) -> tuple[Account, ...]:
    """Return who has an account."""
    _everywhere(request)
    return tuple(
        Account(
            user.name, tuple(sorted(user.roles)), None if user.portals is None else tuple(sorted(user.portals)),
            bool(user.phc),
        )
        for user in await request.app[USERS].all()
    )  # fmt: skip


async def end_sessions(request: web.Request, because: Because) -> Done:
    """End every session that is open under a name; the count is 0 where none was."""
    name = request.match_info["name"]
    _everywhere(request)
    actor, address = request[ACTOR].name, request[ADDRESS]
    ended = await request.app[SESSIONS].end_all(name)
    if ended:
        told = {"user": name, "count": ended}
        record = act(Action.SESSIONS_ENDED, told, actor=actor, address=address, reason=because.reason)
        await tell(request.app[REDIS], record)
        security(SecurityEvent.SESSION_REVOKED, user=name, count=ended, actor=actor, from_address=address)
    return Done(ended)


async def revoke_token(request: web.Request, because: Because) -> Done:
    """Let a token open nothing any more."""
    token_id = request.match_info["id"]
    _everywhere(request)
    actor, address = request[ACTOR].name, request[ADDRESS]
    record = act(Action.TOKEN_REVOKED, {"token_id": token_id}, actor=actor, address=address, reason=because.reason)
    await revoke(request.app[REDIS], token_id, record)
    security(SecurityEvent.TOKEN_REVOKED, token_id=token_id, actor=actor, from_address=address)
    return Done(1)


def _everywhere(request: web.Request) -> None:
    if request[ACTOR].portals is not None:
        raise Problem(403, "not_permitted", "This holds for all portals, and you see some only.")
