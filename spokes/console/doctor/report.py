"""`doctor`: is this deployment well. Rule: it changes nothing, and fails only on what would lose an event."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import orjson
import typer
from pydantic import SecretStr
from rich.console import Console
from rich.text import Text

from spokes.console.doctor.audit_store_check import check_audit_store
from spokes.console.doctor.findings import Finding, FindingLevel, ok
from spokes.console.doctor.hubspot_check import check_hubspot
from spokes.console.doctor.identity_check import check_identity_provider
from spokes.console.doctor.process_check import check_processes
from spokes.console.doctor.receiver_check import check_receiver
from spokes.console.doctor.redis_check import check_redis
from spokes.console.doctor.secrets_check import check_stored_secrets
from spokes.console.output import JsonOption, print_json, print_message, progress
from spokes.core.masking import MASK, Mask
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.crm.scopes import Declaration
from spokes.routing import Router, load_router

_LEVEL_STYLES: Final = {FindingLevel.OK: "green", FindingLevel.WARNING: "yellow", FindingLevel.FAULT: "bold red"}


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what is not well.")] = False,
    show_defaults: Annotated[
        bool, typer.Option("--all", "-a", help="Also the settings that have their defaults.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at settings, Redis, the audit store, HubSpot and the door, and say in sentences what is not well.

    Exit code 1 when anything would lose an event; a warning alone is 0.

    Example: spokes doctor --quiet
    """
    settings = Settings.from_env()
    with progress("Looking at Redis, the store, HubSpot and the door"):
        findings = asyncio.run(run_checks(settings))
    mask = Mask(settings.secret_values)
    shown = [finding for finding in findings if not quiet or finding.level is not FindingLevel.OK]
    defaults = [] if as_json or show_defaults else [finding for finding in shown if finding.figures.get("default")]
    if as_json:
        print_json(*(orjson.loads(mask.text(orjson.dumps(finding.as_dict()).decode())) for finding in shown))
    else:
        console = Console(highlight=False)
        for finding in [*summarise_defaults(defaults), *(finding for finding in shown if finding not in defaults)]:
            sign = (f"{finding.level.upper():>7}", _LEVEL_STYLES[finding.level])
            text = mask.text(f"  {finding.topic}: {finding.sentence}")
            console.print(Text.assemble(sign, text), soft_wrap=True)
    faults, warnings = (sum(f.level is level for f in findings) for level in (FindingLevel.FAULT, FindingLevel.WARNING))
    print_message(f"{faults} of {len(findings)} findings would lose events, {warnings} are worth a look.")
    raise typer.Exit(1 if faults else 0)


async def run_checks(settings: Settings) -> list[Finding]:
    """Look at everything, each part for itself."""
    declarations = handler_declarations(load_router(settings.handlers))
    redis = redis_client(settings)
    try:
        parts = await asyncio.gather(
            check_redis(redis, dead_letter_days=settings.dead_letter_days, durable=settings.durable_ack == "aof"),
            check_audit_store(settings),
            check_processes(settings, redis),
            check_stored_secrets(redis, Vault.from_settings(settings)),
            check_hubspot(settings, declarations),
            check_receiver(settings),
            check_identity_provider(settings),
        )
    finally:
        await redis.aclose()
    return [*settings_findings(settings), *(finding for part in parts for finding in part)]


def settings_findings(settings: Settings) -> Iterable[Finding]:
    """Return every setting with its value, secrets masked; those that were not set, by their default."""
    for name in sorted(Settings.model_fields):
        value = getattr(settings, name)
        default = name not in settings.model_fields_set
        told = f"{name.upper()} = {_display_value(value)}{' (default)' if default else ''}"
        yield ok("settings", told, name=name.upper(), value=_display_value(value), default=default)


def summarise_defaults(defaults: Sequence[Finding]) -> Iterable[Finding]:
    """Return one finding for all settings that nobody has set."""
    if defaults:
        yield ok("settings", f"{len(defaults)} have their defaults: --all shows them.")


def handler_declarations(router: Router) -> list[Declaration]:
    """Return what the handlers declare, for each type of event that they take."""
    return [Declaration(claim.partition(".")[0], route.uses.reads, route.uses.may) for claim, route in router]


def _display_value(value: object) -> str:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else "not set"
    if isinstance(value, tuple):
        return ", ".join(_display_value(part) for part in value) or "not set"
    return str(value) or "not set"
