"""What a backfill reads: the kinds of events and the properties that handlers register for. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spokes.core.errors import RecoveryRefused
from spokes.crm.object_types import singular

_ANY_OBJECT: Final = "object"
_CHANGE: Final = "propertyChange"
CONTACT: Final = "contact"


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """The events to make of the records of one type; `object_type` in the singular.

    `is_complete` is whether they are all events that handlers register for: only then a gap is closed.
    """

    object_type: str
    properties: tuple[str, ...]
    creations: bool
    deletions: bool
    merges: bool
    is_complete: bool = True

    @property
    def last_modified(self) -> str:
        """The property with the time of a record's last change; contacts have it without the prefix."""
        return "lastmodifieddate" if self.object_type == CONTACT else "hs_lastmodifieddate"

    @property
    def reads_records(self) -> bool:
        """Whether records that exist are read; otherwise only the recycle bin."""
        return bool(self.properties) or self.creations or self.merges


def make_plan(
    object_type: str, registrations: Iterable[str], *, properties: Iterable[str] = (), own: Iterable[str] | None = None
) -> BackfillPlan:
    """Return the plan for one type.

    Args:
        object_type: in any of its names.
        registrations: of all handlers.
        properties: read only changes of these; empty: of all that handlers register for.
        own: the registrations of the one handler that the backfill is for; None: of all handlers.

    Raises:
        RecoveryRefused: no handler registers for any event that the records show, or for all properties.
    """
    name, wanted = singular(object_type), tuple(dict.fromkeys(properties))
    whole = _kinds(name, registrations)
    kinds = whole if own is None else _kinds(name, own)
    registered = sorted(kind.partition(":")[2] for kind in kinds if kind.startswith(f"{_CHANGE}:"))
    is_for_any_property = _CHANGE in kinds
    if unknown := [property_ for property_ in wanted if property_ not in registered and not is_for_any_property]:
        raise RecoveryRefused(
            f"No handler registers for changes of {unknown[0]!r} of {name}, so nothing would process them. "
            f"Registered: {', '.join(registered) or 'none'}."
        )
    if is_for_any_property and not wanted:
        raise RecoveryRefused(
            f"A handler registers for changes of every property of {name}. Name those to read with --property."
        )
    plan = BackfillPlan(
        name,
        wanted or tuple(registered),
        creations="creation" in kinds and not wanted,
        deletions="deletion" in kinds and not wanted,
        merges="merge" in kinds and not wanted,
        is_complete=not wanted and kinds == whole,
    )
    if not (plan.reads_records or plan.deletions):
        raise RecoveryRefused(
            f"No handler registers for an event that the records of {name} show: creation, propertyChange, deletion "
            "or merge. `spokes handlers` shows the registrations."
        )
    return plan


def _kinds(object_type: str, registrations: Iterable[str]) -> frozenset[str]:
    """Return the kinds that match the type, with the property: `creation`, `propertyChange:phone`."""
    split = (registration.partition(".") for registration in registrations)
    return frozenset(kind for family, _, kind in split if family in {object_type, _ANY_OBJECT})
