"""`secrets list|reseal`: secrets that are kept sealed in Redis. Rule: none is ever shown."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from getpass import getuser
from typing import TypeVar

import typer
from redis.asyncio import Redis

from audit.records import Action, AuditRecord
from audit.stream import append
from core.connections import redis_client
from core.settings import Settings
from core.vault import Vault
from crm.secrets import Kept, Secrets

app = typer.Typer(no_args_is_help=True, help="Look at the secrets that are kept sealed, and rotate their key.")
T = TypeVar("T")


@app.command(name="list")
def list_secrets() -> None:
    """Name what is kept, and whether the newest key seals it.

    Example: spokes secrets list
    """
    settings = Settings.from_env()
    vault = Vault.of(settings)
    kept = asyncio.run(_with_redis(settings, _kept))
    for one in kept:
        state = "sealed by the newest key" if vault.is_newest(one.sealed) else "not sealed by the newest key"
        print(f"{one.portal_id}  {one.name}  {state}")
    if not kept:
        print("No secret is kept.", file=sys.stderr)


@app.command()
def reseal() -> None:
    """Seal everything with the newest key; afterwards the older ones may leave SECRETS_KEY.

    The exit code is 1 when something could not be opened, and is therefore left as it was.

    Example: SECRETS_KEY=new,old spokes secrets reseal
    """
    settings = Settings.from_env()
    count, unreadable = asyncio.run(_with_redis(settings, _reseal))
    print(f"{count} resealed.")
    for one in unreadable:
        print(f"{one.name} of portal {one.portal_id} is opened by no key in SECRETS_KEY.", file=sys.stderr)
    raise typer.Exit(1 if unreadable else 0)


async def _kept(redis: Redis, vault: Vault) -> list[Kept]:
    return await Secrets(redis, vault).kept()


async def _reseal(redis: Redis, vault: Vault) -> tuple[int, list[Kept]]:
    count, unreadable = await Secrets(redis, vault).reseal()
    detail = {"resealed": count, "unreadable": len(unreadable)}
    async with redis.pipeline(transaction=True) as pipeline:
        append(pipeline, AuditRecord(action=Action.SECRETS_RESEALED, portal_id=0, actor=getuser(), detail=detail))
        await pipeline.execute()
    return count, unreadable


async def _with_redis(settings: Settings, work: Callable[[Redis, Vault], Coroutine[None, None, T]]) -> T:
    async with redis_client(settings) as redis:
        return await work(redis, Vault.of(settings))
