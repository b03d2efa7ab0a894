"""What somebody asks of the audit, read from an address. Rule: pure; a fault is a sentence, and asks nothing."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Final

import typer

from spokes.audit.records import Action, Outcome
from spokes.audit.sql.queries import Filters
from spokes.console.record_filters import moment

NAMES: Final = tuple(field.name for field in fields(Filters))
_NUMBERS: Final = frozenset({"portal_id", "event_id"})
_TIMES: Final = frozenset({"since", "until"})
_DIGITS: Final = 18  # what both kinds of store hold in a number


def read(query: Mapping[str, str]) -> tuple[Filters, list[str]]:
    """Return the filters and what is wrong with those that were left out."""
    given: dict[str, object] = {}
    faults = []
    for name in NAMES:
        text = query.get(name, "").strip()
        if not text:
            continue
        try:
            given[name] = _value(name, text)
        except (ValueError, typer.BadParameter):
            faults.append(_fault(name))
    return Filters(**given), faults  # type: ignore[arg-type]  # _value has made them of the fields' types


def _value(name: str, text: str) -> object:
    if name in _TIMES:
        return moment(text)
    if name in _NUMBERS:
        if not text.isdecimal() or len(text) > _DIGITS:
            raise ValueError
        return int(text)
    if name == "action":
        return Action(text)
    return Outcome(text) if name == "outcome" else text


def _fault(name: str) -> str:
    told = name.replace("_", " ").capitalize()
    if name in _TIMES:
        return f"{told} is no time; try 2026-11-23, 2026-11-23T14:00, 2h or 7d."
    return f"{told} is no number." if name in _NUMBERS else f"{told} is none there is."
