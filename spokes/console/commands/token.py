"""`token mint|revoke`: keys to the API for programs. Rule: an hour at most, and one alone can be taken back."""

import asyncio
import getpass
from typing import Annotated, Final

import jwt
import typer

from spokes.audit.records import Action, AuditRecord
from spokes.console.accounts.api_tokens import MAX_TTL_S, ApiTokens
from spokes.console.accounts.api_tokens import revoke as take_back
from spokes.console.accounts.policy import Role
from spokes.console.operator_audit import append_record, operator_record
from spokes.console.output import JsonOption, ReasonOption, print_json
from spokes.core.errors import ConfigurationError
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Let programs use the API, for an hour at most.")

_OIDC_PREFIX: Final = "oidc:"


@app.command()
def mint(
    name: Annotated[str, typer.Option(help="Whose acts they are; it stands in the audit.")],
    role: Annotated[list[Role], typer.Option(help="What it may do; may be given several times.")],
    portal: Annotated[list[int] | None, typer.Option(help="A portal it sees; without any, all.")] = None,
    minutes: Annotated[int, typer.Option(help="How long it lives.", min=1, max=MAX_TTL_S // 60)] = MAX_TTL_S // 60,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print a token for the API; whoever has it may do what its role may, until it expires or is taken back.

    A request carries it in the header `Authorization: Bearer TOKEN`. Its id is told beside it.

    Example: spokes token mint --role viewer --name ada
    """
    if name.startswith(_OIDC_PREFIX):
        raise ConfigurationError(
            [f"Names that begin with {_OIDC_PREFIX} are those of the identity provider; choose another."]
        )
    settings = Settings.from_env(required=("CONSOLE_KEY",))
    minted = ApiTokens.from_settings(settings).mint(name, role, portal, ttl_s=minutes * 60)
    told = {"token_id": minted.id, "name": name, "roles": sorted(map(str, role)), "portals": portal, "minutes": minutes}
    actor = getpass.getuser()
    asyncio.run(_append(settings, operator_record(Action.TOKEN_MADE, told, actor=actor, reason=reason)))
    log_security_event(SecurityEvent.TOKEN_MADE, by=actor, token_id=minted.id, name=name, roles=told["roles"])
    if as_json:
        print_json({"token": minted.token, "id": minted.id, "expires_in_s": minutes * 60})
    else:
        print(minted.token)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="The token, or its id: `spokes audit query` finds it by token.made.")],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take a token back: it opens nothing from now on. Others of the same name go on.

    Example: spokes token revoke 5f0c9e2ab1d34477 --reason "it was in a screenshot"
    """
    settings = Settings.from_env(required=("CONSOLE_KEY",))
    own_name = _token_id(token)
    actor = getpass.getuser()
    record = operator_record(Action.TOKEN_REVOKED, {"token_id": own_name}, actor=actor, reason=reason)
    asyncio.run(_revoke(settings, own_name, record))
    log_security_event(SecurityEvent.TOKEN_REVOKED, by=actor, token_id=own_name)
    if as_json:
        print_json({"id": own_name, "revoked": True})
    else:
        print(f"Token {own_name} opens nothing any more.")


def _token_id(token: str) -> str:
    """The id of a token, or what is an id by itself; the token need not be good to be taken back."""
    if "." not in token:
        return token
    try:
        found = jwt.decode(token, options={"verify_signature": False}).get("jti")
    except jwt.PyJWTError:
        found = None
    if not (isinstance(found, str) and found):
        raise ConfigurationError(["This is no token with an id of its own; a new CONSOLE_KEY ends all of ours."])
    return found


async def _append(settings: Settings, record: AuditRecord) -> None:
    async with redis_client(settings) as redis:
        await append_record(redis, record)


async def _revoke(settings: Settings, token_id: str, record: AuditRecord) -> None:
    async with redis_client(settings) as redis:
        await take_back(redis, token_id, record)
