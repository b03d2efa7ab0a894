"""How the commands of this package show a plan and the result of applying it."""

from collections.abc import Sequence
from typing import NamedTuple

from spokes.console.output import print_json, print_message
from spokes.subscriptions.applied_plan import AppliedPlan


class PlannedChange(NamedTuple):
    """One change: `+`, `~` or `-`, what is changed, and why or to what."""

    sign: str
    subject: str
    details: str | list[str]


def print_changes(changes: Sequence[PlannedChange], *, details_as: str, as_json: bool) -> None:
    """Print the changes of a plan; `details_as` is the name of their details in JSON."""
    if as_json:
        print_json(*({"change": sign, "subject": subject, details_as: details} for sign, subject, details in changes))
    elif not changes:
        print("HubSpot has all that the handlers need.")
    else:
        for sign, subject, details in changes:
            text = details if isinstance(details, str) else ", ".join(details)
            print(f"{sign} {subject}" + (f": {text}" if text else ""))


def print_foreign(count: int) -> None:
    """Print how many subscriptions are neither ours nor needed, if any are."""
    if count:
        print_message(f"Subscriptions that Spokes did not create, and that no handler needs, stay: {count}.")


def print_result(result: AppliedPlan, *, as_json: bool) -> None:
    """Print what was changed, what HubSpot refused, and what else there is to know."""
    if as_json:
        lines = {"done": result.done, "failed": result.failures, "notice": result.notices}
        print_json(*({name: line} for name, texts in lines.items() for line in texts))
        return
    print_message(f"Changed in HubSpot: {len(result.done)}. Refused: {len(result.failures)}.")
    for sentence in (*result.failures, *result.notices):
        print_message(sentence)


def print_missing(count: int | None) -> None:
    """Print of how many events, which were awaited before, a gap is reported; None: of none, without Redis."""
    if count is None:
        print_message("Redis does not answer, so no gap is reported of the time without these subscriptions.")
    elif count:
        print_message(
            f"Workers waited for {count} of these events before: `spokes gaps list` shows since when. "
            "`spokes backfill` reads what changed."
        )
