"""Properties that an account has added, as a command line names them, and what to do about unknown ones."""

from collections.abc import Iterable

from spokes.simulator.crm.object_types import ObjectType, ObjectTypes
from spokes.simulator.crm.property_schema import PROPERTY_NAME
from spokes.simulator.errors import HubSpotError
from spokes.simulator.property_definition import KINDS, PropertyDefinition


def validated(text: str) -> str:
    """Return `contacts.favourite_colour` or `deals.renewal:date` as it is.

    Raises:
        ValueError: it is not such a text.
    """
    type_name, name, kind = _parse(text)
    if not PROPERTY_NAME.fullmatch(name) or kind not in KINDS:
        raise ValueError(
            "must be TYPE.NAME or TYPE.NAME:KIND, such as contacts.favourite_colour or deals.renewal:date. Names have "
            f"a-z, 0-9 and _; kinds are {', '.join(KINDS)}"
        )
    try:
        ObjectTypes({}, 0).resolve(type_name)
    except HubSpotError:
        raise ValueError("must begin with an object type, such as contacts, deals or 2-4711") from None
    return text


def own_definitions(texts: Iterable[str]) -> dict[str, dict[str, PropertyDefinition]]:
    """Return the definition of each property, by object type and name."""
    by_type: dict[str, dict[str, PropertyDefinition]] = {}
    for type_name, name, kind in map(_parse, texts):
        by_type.setdefault(type_name, {})[name] = PropertyDefinition(kind)
    return by_type


def _parse(text: str) -> tuple[str, str, str]:
    path, _, kind = text.partition(":")
    type_name, _, name = path.partition(".")
    return type_name, name, kind or KINDS[0]


class UnknownProperties:
    """Prints how to add a property that was refused, once for each."""

    def __init__(self) -> None:
        self._printed: set[str] = set()

    def print_once(self, type_: ObjectType, name: str) -> None:
        """Print it, unless it was printed; a text that is no property name may hold anything and is left out."""
        path = f"{type_.plural}.{name}"
        if path in self._printed or not PROPERTY_NAME.fullmatch(name):
            return
        self._printed.add(path)
        print(  # noqa: T201 - a command line prints
            f"Refused a write: this account has no property {path}, and HubSpot answers 400 in that case. If yours has "
            f"it, start again with `spokes up --property {path}`.",
            flush=True,
        )
