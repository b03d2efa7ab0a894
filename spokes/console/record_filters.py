"""The filter options of the audit commands, one per field of `spokes.audit.sql.queries.Filters`."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields
from inspect import Parameter, signature
from typing import Annotated, Final, get_type_hints

import typer

from spokes.audit.sql.queries import Filters
from spokes.console.time_input import parse_time
from spokes.core.masking import Mask
from spokes.core.telemetry.secret_ages import is_fingerprint

_HELP: Final[Mapping[str, str]] = {
    "action": "What the record is about, such as event.",
    "outcome": "How an event ended, or its current state, such as dead.",
    "reason": "Why an event ended so, such as object_not_found.",
    "portal_id": "HubSpot account.",
    "object_type": "contact, company, deal, ticket, or an objectTypeId.",
    "object_id": "Id of the CRM object.",
    "event_key": "One event, through all its attempts.",
    "event_id": "HubSpot's eventId; several events can share one.",
    "delivery_id": "One delivery.",
    "handler": "Name of the handler.",
    "actor": "Who acted: spokes, or an operator.",
    "correlation_id": "HubSpot's correlation id of a CRM call.",
    "token": "Fingerprint of the access token with which Spokes called HubSpot: `spokes secrets fingerprints`.",
    "since": "From this time on: 2026-11-23, 2026-11-23T14:00+01:00, epoch ms, or an age: 30m, 2h, 7d, 4w.",
    "until": "Before this time; same forms as --since.",
}


def parse_time_option(text: str) -> int:
    """Return the epoch ms of a time option."""
    try:
        return parse_time(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time. Write 2026-11-23T14:00, 2h or 7d.") from None


def parse_fingerprint_option(text: str) -> str:
    """Return the fingerprint of a token option."""
    if not is_fingerprint(text):
        raise typer.BadParameter(
            f"{Mask().text(text)!r} is not a fingerprint, which has 16 hexadecimal digits. `spokes secrets "
            "fingerprints` shows that of the token in HUBSPOT_ACCESS_TOKEN."
        )
    return text


def check_period(filters: Filters) -> None:
    """Refuse a period without a moment in it, which would look like one without records.

    Raises:
        typer.BadParameter: with a sentence.
    """
    if filters.since is not None and filters.until is not None and filters.until <= filters.since:
        raise typer.BadParameter("is not after --since. Write a later time, or leave it out.", param_hint="--until")


_PARSERS: Final[Mapping[str, tuple[Callable[[str], object], str]]] = {  # with the name of the value in the help
    "since": (parse_time_option, "TIME"),
    "until": (parse_time_option, "TIME"),
    "token": (parse_fingerprint_option, "FINGERPRINT"),
}


def _option(name: str, hint: object) -> Parameter:
    parser, metavar = _PARSERS.get(name, (None, None))
    option = typer.Option(help=_HELP[name], parser=parser, metavar=metavar)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[hint, option])


_FILTER_OPTIONS: Final = tuple(_option(field.name, get_type_hints(Filters)[field.name]) for field in fields(Filters))


def with_filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the first parameter of a command, `filters`, by one option for each field of `Filters`."""

    @functools.wraps(command)
    def with_options(**arguments: object) -> None:
        filters = {option.name: arguments.pop(option.name) for option in _FILTER_OPTIONS}
        chosen = Filters(**filters)  # type: ignore[arg-type]  # typer has converted the values
        check_period(chosen)
        command(chosen, **arguments)

    own = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in signature(command).parameters.values()][1:]
    parameters = [*own, *_FILTER_OPTIONS]
    # typer reads both attributes; they equal those of a command that lists every option itself.
    with_options.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]  # PEP 362
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options
