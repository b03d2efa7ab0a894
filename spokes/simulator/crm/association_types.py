"""The numbers HubSpot gives to associations. Rule: a number belongs to one direction, from one type to another.

Source: HubSpot's docs "Associate records".
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from spokes.simulator.changes import AssociationSpec
from spokes.simulator.crm.object_types import COMPANY, CONTACT, DEAL, TICKET, ObjectType
from spokes.simulator.errors import invalid_request

HUBSPOT_DEFINED: Final = "HUBSPOT_DEFINED"
USER_DEFINED: Final = "USER_DEFINED"
_LINE_ITEM, _LEAD = "0-8", "0-136"
_FIRST_INVENTED: Final = 100_000  # numbers for pairs that the documented tables leave out


class AssociationType(NamedTuple):
    """One number: its direction, the number of the way back, its label; `primary` ones imply the plain one."""

    spec: AssociationSpec
    from_type_id: str
    to_type_id: str
    reverse: AssociationSpec
    label: str | None = None
    primary: bool = False


# from, to, number there, number back
_UNLABELLED: Final = (
    (CONTACT, COMPANY, 279, 280),
    (CONTACT, DEAL, 4, 3),
    (CONTACT, TICKET, 15, 16),
    (COMPANY, DEAL, 342, 341),
    (COMPANY, TICKET, 340, 339),
    (DEAL, TICKET, 27, 28),
    (DEAL, _LINE_ITEM, 19, 20),
    (CONTACT, CONTACT, 449, 449),
    (COMPANY, COMPANY, 450, 450),
    (DEAL, DEAL, 451, 451),
    (TICKET, TICKET, 452, 452),
)
_PRIMARY: Final = ((CONTACT, COMPANY, 1, 2), (COMPANY, DEAL, 6, 5), (COMPANY, TICKET, 25, 26))

# Activity -> its number towards contact, company, deal, ticket; the way back is the number below it.
_ACTIVITIES: Final[Mapping[str, tuple[int, int, int, int]]] = {
    "0-46": (202, 190, 214, 228),
    "0-27": (204, 192, 216, 230),
    "0-48": (194, 182, 206, 220),
    "0-49": (198, 186, 210, 224),
    "0-47": (200, 188, 212, 226),
    "0-18": (81, 87, 85, 83),
    "0-116": (453, 459, 457, 455),
}
_TO_LEAD: Final[Mapping[str, int]] = {"0-46": 855, "0-27": 647, "0-48": 597, "0-47": 601, "0-18": 603}


def _both_directions(
    from_type: str, to_type: str, there: int, back: int, label: tuple[str, str] | None = None, *, primary: bool = False
) -> list[AssociationType]:
    spec, reverse = AssociationSpec(HUBSPOT_DEFINED, there), AssociationSpec(HUBSPOT_DEFINED, back)
    labels = label or (None, None)
    made = [AssociationType(spec, from_type, to_type, reverse, labels[0], primary)]
    if spec != reverse:
        made.append(AssociationType(reverse, to_type, from_type, spec, labels[1], primary))
    return made


def _documented_types() -> list[AssociationType]:
    made: list[AssociationType] = []
    for pair in _UNLABELLED:
        made += _both_directions(*pair)
    for pair in _PRIMARY:
        made += _both_directions(*pair, ("Primary", "Primary"), primary=True)
    made += _both_directions(COMPANY, COMPANY, 13, 14, ("Child Company", "Parent Company"))
    for activity, numbers in _ACTIVITIES.items():
        for to_type, there in zip((CONTACT, COMPANY, DEAL, TICKET), numbers, strict=True):
            made += _both_directions(activity, to_type, there, there - 1)
    for activity, there in _TO_LEAD.items():
        made += _both_directions(activity, _LEAD, there, there - 1)
    return made


class AssociationTypes:
    """The association numbers of one portal: the documented ones, its own labels, and invented ones for the rest."""

    def __init__(self) -> None:
        self._types: dict[tuple[AssociationSpec, str, str], AssociationType] = {}
        self._unlabelled: dict[tuple[str, str], AssociationType] = {}
        self._last_number = _FIRST_INVENTED
        for made in _documented_types():
            self._add(made)

    def unlabelled(self, from_type_id: str, to_type_id: str) -> AssociationType:
        """The unlabelled association between two types."""
        pair = (from_type_id, to_type_id)
        if pair not in self._unlabelled:
            there = self._next_number()
            for made in _both_directions(*pair, there, there if from_type_id == to_type_id else self._next_number()):
                self._add(made)
        return self._unlabelled[pair]

    def reverse(self, there: AssociationType) -> AssociationType:
        """The same association seen from its far end."""
        return self._types[there.reverse, there.to_type_id, there.from_type_id]

    def define_label(self, from_type: ObjectType, to_type: ObjectType, label: str) -> AssociationType:
        """Give the portal a label of its own, as a user does in HubSpot's settings; valid both ways."""
        there, back = (
            AssociationSpec(USER_DEFINED, self._next_number()),
            AssociationSpec(USER_DEFINED, self._next_number()),
        )
        made = AssociationType(there, from_type.type_id, to_type.type_id, back, label)
        self._add(made)
        self._add(AssociationType(back, to_type.type_id, from_type.type_id, there, label))
        return made

    def between(self, from_type: ObjectType, to_type: ObjectType) -> list[AssociationType]:
        """Every number from one type to another, the plain one among them."""
        self.unlabelled(from_type.type_id, to_type.type_id)
        pair = (from_type.type_id, to_type.type_id)
        return [known for known in self._types.values() if (known.from_type_id, known.to_type_id) == pair]

    def find(self, spec: AssociationSpec, from_type: ObjectType, to_type: ObjectType) -> AssociationType:
        """The number `spec` in this direction.

        Raises:
            HubSpotError: 400, the number is unknown or belongs to another direction.
        """
        self.unlabelled(from_type.type_id, to_type.type_id)
        found = self._types.get((spec, from_type.type_id, to_type.type_id))
        if found is None:
            direction = f"{from_type.singular.upper()} to {to_type.singular.upper()}"
            message = f"Association type {spec.type_id} in category {spec.category} is not valid for {direction}."
            raise invalid_request(message, code="INVALID_ASSOCIATION_TYPE")
        return found

    def find_from(self, spec: AssociationSpec, from_type: ObjectType) -> AssociationType:
        """The number `spec` as it leads away from a type, wherever to.

        Raises:
            HubSpotError: 400, no association of that number starts there.
        """
        for known in self._types.values():
            if known.spec == spec and known.from_type_id == from_type.type_id:
                return known
        message = f"Association type {spec.type_id} is not valid from {from_type.singular.upper()}."
        raise invalid_request(message, code="INVALID_ASSOCIATION_TYPE")

    def _add(self, made: AssociationType) -> None:
        self._types[made.spec, made.from_type_id, made.to_type_id] = made
        if made.label is None:
            self._unlabelled.setdefault((made.from_type_id, made.to_type_id), made)

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number
