"""`token mint|revoke`: API tokens for programs. A token is valid for an hour at most and can be revoked."""

import asyncio
import getpass
from typing import Annotated, Final

import jwt
import typer

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append_now
from spokes.console.accounts.api_tokens import MAX_TTL_S, ApiTokens
from spokes.console.accounts.api_tokens import revoke as revoke_token
from spokes.console.accounts.policy import Role
from spokes.console.operator_audit import operator_record
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, ReasonOption, print_json
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Mint and revoke API tokens for programs. A token is valid for an hour at most.",
)

_OIDC_PREFIX: Final = "oidc:"


def _check_name(name: str) -> str:
    if not name.strip():
        raise typer.BadParameter("is empty. Write the name of the program that will use the token.")
    return name


@app.command()
def mint(
    name: Annotated[
        str,
        typer.Option(help="The actor of the token's actions; recorded in the audit log.", callback=_check_name),
    ],
    role: Annotated[list[Role], typer.Option(help="What the token may do; repeatable.")],
    portal: Annotated[
        list[int] | None, typer.Option(help="A portal that the token may see; repeatable; default: all.", min=1)
    ] = None,
    minutes: Annotated[int, typer.Option(help="How long the token is valid.", min=1, max=MAX_TTL_S // 60)] = MAX_TTL_S
    // 60,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print an API token. Everyone who has it may do what its role allows, until it expires or is revoked.

    A request carries it in the header `Authorization: Bearer TOKEN`. With --json the token's id is printed too.

    Example: spokes token mint --role viewer --name ada
    """
    if name.startswith(_OIDC_PREFIX):
        raise ConfigurationError(
            [f"Names that begin with {_OIDC_PREFIX} belong to the identity provider. Choose another name."]
        )
    settings = Settings.from_env(required=("CONSOLE_KEY",))
    minted = ApiTokens.from_settings(settings).mint(name, role, portal, ttl_s=minutes * 60)
    roles = sorted(map(str, role))
    detail = {"token_id": minted.id, "name": name, "roles": roles, "portals": portal, "minutes": minutes}
    actor = getpass.getuser()
    asyncio.run(_append(settings, operator_record(Action.TOKEN_MADE, detail, actor=actor, reason=reason)))
    log_security_event(SecurityEvent.TOKEN_MADE, by=actor, token_id=minted.id, name=name, roles=roles)
    if as_json:
        print_json({"token": minted.token, "id": minted.id, "expires_in_s": minutes * 60})
    else:
        print(minted.token)


@app.command()
def revoke(
    token: Annotated[
        str, typer.Argument(help="The token, or its id: `spokes audit query --action token.made` shows it.")
    ],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Revoke a token: the API refuses it from now on. Other tokens of the same name stay valid.

    Example: spokes token revoke 5f0c9e2ab1d34477 --reason "it was in a screenshot"
    """
    settings = Settings.from_env(required=("CONSOLE_KEY",))
    token_id = _token_id(token)
    actor = getpass.getuser()
    record = operator_record(Action.TOKEN_REVOKED, {"token_id": token_id}, actor=actor, reason=reason)
    asyncio.run(_revoke(settings, token_id, record))
    log_security_event(SecurityEvent.TOKEN_REVOKED, by=actor, token_id=token_id)
    if as_json:
        print_json({"id": token_id, "revoked": True})
    else:
        print(f"Token {token_id} is revoked.")


def _token_id(token: str) -> str:
    """Return the id in a token, valid or not, or the argument itself if it is an id."""
    if "." not in token:
        return token
    try:
        token_id = jwt.decode(token, options={"verify_signature": False}).get("jti")
    except jwt.PyJWTError:
        token_id = None
    if not (isinstance(token_id, str) and token_id):
        raise ConfigurationError(
            ["This token has no id, so it alone cannot be revoked. A new CONSOLE_KEY revokes all our tokens."]
        )
    return token_id


async def _append(settings: Settings, record: AuditRecord) -> None:
    async with operator_redis(settings) as redis:
        await append_now(redis, record)


async def _revoke(settings: Settings, token_id: str, record: AuditRecord) -> None:
    async with operator_redis(settings) as redis:
        await revoke_token(redis, token_id, record)
