"""`doctor`: check the deployment and print the findings."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.text import Text

from spokes.console.audit_store import open_audit_store
from spokes.console.doctor.findings import Finding, FindingLevel, ok
from spokes.console.doctor.portals.portal_check import check_portal
from spokes.console.doctor.report import run_checks
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, print_json, print_message, progress
from spokes.core.masking import Mask
from spokes.core.settings import Settings
from spokes.start_check import read_settings

_LEVEL_STYLES: Final = {
    FindingLevel.OK: "green", FindingLevel.INFO: "cyan", FindingLevel.WARNING: "yellow", FindingLevel.FAULT: "bold red"
}  # fmt: skip
_PROBLEMS: Final = frozenset({FindingLevel.WARNING, FindingLevel.FAULT})


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings and faults.")] = False,
    show_defaults: Annotated[
        bool, typer.Option("--all", "-a", help="Also list the settings that have their default values.")
    ] = False,
    portal_id: Annotated[
        int | None, typer.Option("--portal", help="Check one portal instead: why its events do not run.", min=1)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check settings, Redis, audit store, HubSpot, processes and PUBLIC_URL; explain each problem and its remedy.

    FAULT needs repair now: events can be lost, or are not processed. WARNING is worth a look. INFO may be as you want
    it.

    Exit code 1 when there is a fault; 0 with warnings alone.

    Example: spokes doctor --quiet
    """
    settings = read_settings()
    checked = "Redis, the audit store, HubSpot and PUBLIC_URL" if portal_id is None else f"portal {portal_id}"
    with progress(f"Checking {checked}"):
        findings = asyncio.run(run_checks(settings) if portal_id is None else _portal_findings(settings, portal_id))
    shown = [finding for finding in findings if not quiet or finding.level in _PROBLEMS]
    mask = Mask(settings.secret_values)
    if as_json:
        print_json(*(orjson.loads(mask.text(orjson.dumps(finding.as_dict()).decode())) for finding in shown))
    else:
        _print_findings(shown if show_defaults else summarise_defaults(shown), mask)
    faults, warnings = (
        sum(finding.level is level for finding in findings) for level in (FindingLevel.FAULT, FindingLevel.WARNING)
    )
    print_message(f"Findings: {len(findings)}, of which faults: {faults}, warnings: {warnings}.")
    raise typer.Exit(1 if faults else 0)


async def _portal_findings(settings: Settings, portal_id: int) -> list[Finding]:
    async with open_audit_store(settings) as engine, operator_redis(settings) as redis:
        return await check_portal(settings, engine, redis, portal_id)


def summarise_defaults(findings: Sequence[Finding]) -> Iterable[Finding]:
    """Replace the settings that have their default values by one finding."""
    defaults = [finding for finding in findings if finding.figures.get("default")]
    if defaults:
        yield ok("settings", f"{len(defaults)} settings have their default values: --all shows them.")
    yield from (finding for finding in findings if not finding.figures.get("default"))


def _print_findings(findings: Iterable[Finding], mask: Mask) -> None:
    console = Console(highlight=False)
    for finding in findings:
        label = (f"{finding.level.upper():>7}", _LEVEL_STYLES[finding.level])
        text = mask.text(f"  {finding.topic}: {finding.sentence}")
        console.print(Text.assemble(label, text), soft_wrap=True)
