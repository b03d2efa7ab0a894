"""`secrets list|reseal|fingerprints`: secrets stored encrypted in Redis and SQL, and HubSpot's. None is shown."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from getpass import getuser
from typing import Annotated, Protocol, TypeVar

import typer
from redis.asyncio import Redis

from spokes.audit.records import Action
from spokes.audit.stream import append_now
from spokes.console.audit_store import open_audit_store
from spokes.console.operator_audit import operator_record
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, print_json, print_message, print_table
from spokes.core.errors import AuditUnavailable
from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import fingerprinter, secret_fingerprints
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import StoredSecret, StoredSecrets
from spokes.portals.profile_store import ProfileStore
from spokes.portals.store import PortalStore

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List the secrets stored encrypted in Redis and SQL, re-encrypt them with a new key, and show fingerprints.",
)
T = TypeVar("T")


class SealedStore(Protocol):
    """A table with one sealed value for each portal."""

    async def sealed(self) -> Sequence[tuple[int, bytes]]:
        """Return the sealed values by portal."""

    async def reseal(self) -> tuple[int, Sequence[int]]:
        """Reseal with the newest key; return how many, and the portals whose value no key opens."""


@app.command(name="list")
def list_secrets(as_json: JsonOption = False) -> None:
    """Show the names of the stored secrets, and whether each is encrypted with the newest key.

    Example: spokes secrets list
    """
    settings = Settings.from_env()
    vault = Vault.from_settings(settings)
    stored = asyncio.run(_with_redis(settings, partial(_stored_secrets, settings=settings)))
    rows = [(secret.portal_id, secret.name, vault.uses_newest_key(secret.sealed)) for secret in stored]
    if as_json:
        print_json(*({"portal_id": portal, "name": name, "newest_key": newest} for portal, name, newest in rows))
    elif not rows:
        print_message("No secret is stored.")
    else:
        columns = ("Portal", "Name", "Encrypted with the newest key")
        print_table(columns, ((portal, name, "yes" if newest else "no") for portal, name, newest in rows))


@app.command()
def reseal(as_json: JsonOption = False) -> None:
    """Encrypt every stored secret again with the newest key; then remove the older keys from SECRETS_KEY.

    Exit code 1 when a secret could not be decrypted; it is left unchanged.

    Example: SECRETS_KEY=new,old spokes secrets reseal
    """
    settings = Settings.from_env()
    count, unreadable = asyncio.run(_with_redis(settings, partial(_reseal, settings=settings)))
    if as_json:
        failures = [{"portal_id": secret.portal_id, "name": secret.name} for secret in unreadable]
        print_json({"resealed": count, "unreadable": failures})
    else:
        print(f"Secrets encrypted again: {count}.")
    for secret in unreadable:
        print_message(
            f"{secret.name} of portal {secret.portal_id} cannot be decrypted by any key in SECRETS_KEY. Add its key "
            "and run the command again, or store the secret again."
        )
    raise typer.Exit(1 if unreadable else 0)


@app.command()
def fingerprints(
    portal: Annotated[int | None, typer.Option(help="Show those of this installed portal's tokens.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the fingerprint of each HubSpot secret in the environment. It does not reveal the secret.

    Audit records name the access token by its fingerprint, which depends on AUDIT_KEY:
    `spokes audit affected --token FINGERPRINT` lists what was used with it.

    Example: HUBSPOT_ACCESS_TOKEN=pat-old spokes secrets fingerprints
    """
    settings = Settings.from_env()
    names = secret_fingerprints(settings) if portal is None else asyncio.run(_portal_fingerprints(settings, portal))
    if as_json:
        print_json(*({"variable": name, "fingerprint": fingerprint} for fingerprint, name in names.items()))
    elif not names:
        unset = "No HubSpot secret is set: HUBSPOT_CLIENT_SECRET, HUBSPOT_ACCESS_TOKEN."
        print_message(unset if portal is None else f"Portal {portal} has no tokens.")
    else:
        print_table(("Variable", "Fingerprint"), ((name, fingerprint) for fingerprint, name in names.items()))


async def _portal_fingerprints(settings: Settings, portal_id: int) -> dict[str, str]:
    """Return the names of a portal's current tokens, by their fingerprints."""
    async with open_audit_store(settings) as engine:
        tokens = await PortalStore(engine, Vault.from_settings(settings)).tokens(portal_id)
    if tokens is None:
        return {}
    fingerprint = fingerprinter(settings)
    return {
        fingerprint(tokens.access_token.get_secret_value()): "access token",
        fingerprint(tokens.refresh_token.get_secret_value()): "refresh token",
    }


async def _stored_secrets(redis: Redis, vault: Vault, settings: Settings) -> list[StoredSecret]:
    in_sql = await _for_stores(settings, lambda store: store.sealed())
    return sorted([
        *await StoredSecrets(redis, vault).list_all(),
        *(StoredSecret(portal_id, name, sealed) for name, rows in in_sql.items() for portal_id, sealed in rows),
    ])  # fmt: skip


async def _reseal(redis: Redis, vault: Vault, settings: Settings) -> tuple[int, list[StoredSecret]]:
    count, unreadable = await StoredSecrets(redis, vault).reseal()
    for name, (portal_count, portals) in (await _for_stores(settings, lambda store: store.reseal())).items():
        count += portal_count
        unreadable += [StoredSecret(portal_id, name, b"") for portal_id in portals]
    detail = {"resealed": count, "unreadable": len(unreadable)}
    await append_now(redis, operator_record(Action.SECRETS_RESEALED, detail, actor=getuser()))
    return count, unreadable


async def _for_stores(settings: Settings, work: Callable[[SealedStore], Coroutine[None, None, T]]) -> dict[str, T]:
    """Return the result of `work` for each table with sealed values; without installs, the tables may not exist."""
    vault = Vault.from_settings(settings)
    try:
        async with open_audit_store(settings) as engine:
            stores: dict[str, SealedStore] = {
                "oauth_tokens": PortalStore(engine, vault),
                "portal_settings": ProfileStore(engine, vault),
            }
            return {name: await work(store) for name, store in stores.items()}
    except AuditUnavailable:
        if settings.hubspot_client_id:
            raise
        return {}


async def _with_redis(settings: Settings, work: Callable[[Redis, Vault], Coroutine[None, None, T]]) -> T:
    async with operator_redis(settings) as redis:
        return await work(redis, Vault.from_settings(settings))
