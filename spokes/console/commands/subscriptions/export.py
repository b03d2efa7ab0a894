"""`subscriptions export`: write subscriptions and scopes into the files of a HubSpot project."""

from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated

import typer

from spokes.console.output import JsonOption, print_json, print_message
from spokes.core.settings.web_urls import is_confidential_url
from spokes.routing import load_router
from spokes.start_check import read_settings
from spokes.subscriptions.desired_state import desired_state, unreachable_public_url
from spokes.subscriptions.project.export import ProjectChange, ProjectExport, export_to_project, write_export
from spokes.subscriptions.project.project_files import read_project


@unique
class Auth(StrEnum):
    """How the app gets its access tokens."""

    STATIC = "static"
    OAUTH = "oauth"


def _check_url(urls: list[str]) -> list[str]:
    if not all(map(is_confidential_url, urls)):
        raise typer.BadParameter("must be an https URL.")
    return urls


def export(
    to: Annotated[Path, typer.Option(help="The folder of the HubSpot project, with hsproject.json.")] = Path("hubspot"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if a file differs.")] = False,
    auth: Annotated[Auth, typer.Option(help="Of a new app: one account's token, or OAuth.")] = Auth.STATIC,
    redirect_url: Annotated[
        list[str], typer.Option(help="Where HubSpot returns installers to, with OAuth.", callback=_check_url)
    ] = [],  # noqa: B006 - typer copies it
    as_json: JsonOption = False,
) -> None:
    """Write the subscriptions and scopes that the handlers need into the files of a HubSpot project.

    It adds what is missing and removes what an earlier export added; everything else stays as it is.
    PUBLIC_URL is where HubSpot sends events. Then run `hs project upload`. Exit code 1: --check found a difference.

    Example: PUBLIC_URL=https://hooks.example.com spokes subscriptions export --to hubspot/
    """
    settings = read_settings()
    if note := unreachable_public_url(settings):
        print_message(note)
    desired = desired_state(load_router(settings.handlers), settings)
    project = read_project(to, name=Path.cwd().name, auth=auth)
    result = export_to_project(project, desired, redirect_urls=redirect_url)
    if not check:
        write_export(to, result)
    if as_json:
        print_json(*(_change_fields(change) for change in result.changes))
    else:
        _print_export(result, to, is_check=check)
    for gap in desired.gaps:
        print_message(gap)
    raise typer.Exit(1 if check and result.texts else 0)


def _change_fields(change: ProjectChange) -> dict[str, object]:
    return {"change": change.sign, "subject": change.subject, "reasons": list(change.reasons)}


def _print_export(result: ProjectExport, folder: Path, *, is_check: bool) -> None:
    if not result.texts:
        print(f"{folder} has all that the handlers need.")
        return
    print(result.diff(), end="")
    for change in result.changes:
        print(f"{change.sign} {change.subject}" + (f": {', '.join(change.reasons)}" if change.reasons else ""))
    names = ", ".join(result.texts)
    print_message(f"{names}: {'to be changed' if is_check else 'written'} in {folder}.")
