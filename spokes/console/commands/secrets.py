"""`secrets list|reseal`: secrets that are kept sealed in Redis. Rule: none is ever shown."""

import asyncio
from collections.abc import Callable, Coroutine
from getpass import getuser
from typing import TypeVar

import typer
from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append
from spokes.console.output import JsonOption, print_json, print_message, print_table
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import StoredSecret, StoredSecrets

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Secrets that are kept sealed.")
T = TypeVar("T")


@app.command(name="list")
def list_secrets(as_json: JsonOption = False) -> None:
    """Name what is kept, and whether the newest key seals it.

    Example: spokes secrets list
    """
    settings = Settings.from_env()
    vault = Vault.from_settings(settings)
    kept = asyncio.run(_with_redis(settings, _stored_secrets))
    rows = [(one.portal_id, one.name, vault.uses_newest_key(one.sealed)) for one in kept]
    if as_json:
        print_json(*({"portal_id": portal, "name": name, "newest_key": newest} for portal, name, newest in rows))
    elif not rows:
        print_message("No secret is kept.")
    else:
        print_table(
            ("Portal", "Name", "Sealed by the newest key"), ((*row[:2], "yes" if row[2] else "no") for row in rows)
        )


@app.command()
def reseal(as_json: JsonOption = False) -> None:
    """Seal everything with the newest key; afterwards the older ones may leave SECRETS_KEY.

    Exit code 1 when something could not be opened, and is therefore left as it was.

    Example: SECRETS_KEY=new,old spokes secrets reseal
    """
    settings = Settings.from_env()
    count, unreadable = asyncio.run(_with_redis(settings, _reseal))
    if as_json:
        print_json(
            {"resealed": count, "unreadable": [{"portal_id": one.portal_id, "name": one.name} for one in unreadable]}
        )
    else:
        print(f"{count} resealed.")
    for one in unreadable:
        print_message(f"{one.name} of portal {one.portal_id} is opened by no key in SECRETS_KEY.")
    raise typer.Exit(1 if unreadable else 0)


async def _stored_secrets(redis: Redis, vault: Vault) -> list[StoredSecret]:
    return await StoredSecrets(redis, vault).list_all()


async def _reseal(redis: Redis, vault: Vault) -> tuple[int, list[StoredSecret]]:
    count, unreadable = await StoredSecrets(redis, vault).reseal()
    detail = {"resealed": count, "unreadable": len(unreadable)}
    async with redis.pipeline(transaction=True) as pipeline:
        append(pipeline, AuditRecord(action=Action.SECRETS_RESEALED, portal_id=0, actor=getuser(), detail=detail))
        await pipeline.execute()
    return count, unreadable


async def _with_redis(settings: Settings, work: Callable[[Redis, Vault], Coroutine[None, None, T]]) -> T:
    async with redis_client(settings) as redis:
        return await work(redis, Vault.from_settings(settings))
