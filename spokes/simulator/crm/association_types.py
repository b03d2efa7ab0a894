"""Association type ids and labels. An association type belongs to one direction, from one object type to another.

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
_FIRST_INVENTED: Final = 100_000  # ids for pairs of types that HubSpot's documentation does not list


class AssociationType(NamedTuple):
    """One association type: its direction, its reverse and its label; a `primary` one implies the unlabelled one."""

    spec: AssociationSpec
    from_type_id: str
    to_type_id: str
    reverse: AssociationSpec
    label: str | None = None
    primary: bool = False


# From type, to type, id in that direction, id in the reverse direction.
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

# Activity -> ids towards contact, company, deal, ticket; the reverse direction has the id minus one.
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
    from_type: str,
    to_type: str,
    type_id: int,
    reverse_id: int,
    label: tuple[str, str] | None = None,
    *,
    primary: bool = False,
) -> list[AssociationType]:
    spec, reverse = AssociationSpec(HUBSPOT_DEFINED, type_id), AssociationSpec(HUBSPOT_DEFINED, reverse_id)
    labels = label or (None, None)
    types = [AssociationType(spec, from_type, to_type, reverse, labels[0], primary)]
    if spec != reverse:
        types.append(AssociationType(reverse, to_type, from_type, spec, labels[1], primary))
    return types


def _documented_types() -> list[AssociationType]:
    types: list[AssociationType] = []
    for pair in _UNLABELLED:
        types += _both_directions(*pair)
    for pair in _PRIMARY:
        types += _both_directions(*pair, ("Primary", "Primary"), primary=True)
    types += _both_directions(COMPANY, COMPANY, 13, 14, ("Child Company", "Parent Company"))
    for activity, numbers in _ACTIVITIES.items():
        for to_type, type_id in zip((CONTACT, COMPANY, DEAL, TICKET), numbers, strict=True):
            types += _both_directions(activity, to_type, type_id, type_id - 1)
    for activity, type_id in _TO_LEAD.items():
        types += _both_directions(activity, _LEAD, type_id, type_id - 1)
    return types


class AssociationTypes:
    """The association types of one portal: documented ones, its own labels, and invented ones for all other pairs."""

    def __init__(self) -> None:
        self._types: dict[tuple[AssociationSpec, str, str], AssociationType] = {}
        self._unlabelled: dict[tuple[str, str], AssociationType] = {}
        self._last_number = _FIRST_INVENTED
        for association_type in _documented_types():
            self._add(association_type)

    def unlabelled(self, from_type_id: str, to_type_id: str) -> AssociationType:
        """Return the unlabelled association between two object types."""
        pair = (from_type_id, to_type_id)
        if pair not in self._unlabelled:
            type_id = self._next_number()
            reverse_id = type_id if from_type_id == to_type_id else self._next_number()
            for association_type in _both_directions(*pair, type_id, reverse_id):
                self._add(association_type)
        return self._unlabelled[pair]

    def reverse(self, association_type: AssociationType) -> AssociationType:
        """Return the same association in the reverse direction."""
        return self._types[association_type.reverse, association_type.to_type_id, association_type.from_type_id]

    def define_label(self, from_type: ObjectType, to_type: ObjectType, label: str) -> AssociationType:
        """Define a label, as a user does in HubSpot's settings, for both directions; return that of this direction."""
        spec, reverse = (
            AssociationSpec(USER_DEFINED, self._next_number()),
            AssociationSpec(USER_DEFINED, self._next_number()),
        )
        association_type = AssociationType(spec, from_type.type_id, to_type.type_id, reverse, label)
        self._add(association_type)
        self._add(AssociationType(reverse, to_type.type_id, from_type.type_id, spec, label))
        return association_type

    def between(self, from_type: ObjectType, to_type: ObjectType) -> list[AssociationType]:
        """Return all association types from one object type to another, the unlabelled one included."""
        self.unlabelled(from_type.type_id, to_type.type_id)
        pair = (from_type.type_id, to_type.type_id)
        return [known for known in self._types.values() if (known.from_type_id, known.to_type_id) == pair]

    def find(self, spec: AssociationSpec, from_type: ObjectType, to_type: ObjectType) -> AssociationType:
        """Return the association type `spec` of this direction.

        Raises:
            HubSpotError: 400, the id is unknown or belongs to another direction.
        """
        self.unlabelled(from_type.type_id, to_type.type_id)
        known = self._types.get((spec, from_type.type_id, to_type.type_id))
        if known is None:
            direction = f"{from_type.singular.upper()} to {to_type.singular.upper()}"
            message = f"Association type {spec.type_id} in category {spec.category} is not valid for {direction}."
            raise invalid_request(message, code="INVALID_ASSOCIATION_TYPE")
        return known

    def find_from(self, spec: AssociationSpec, from_type: ObjectType) -> AssociationType:
        """Return the association type `spec` that starts at an object type.

        Raises:
            HubSpotError: 400, no association type of that id starts there.
        """
        starts = [known for known in self._types.values() if known.spec == spec]
        for known in starts:
            if known.from_type_id == from_type.type_id:
                return known
        if starts:
            message = (
                f"invalid from object type {from_type.type_id} for associations to be created. "
                f"expected: {starts[0].from_type_id}"
            )
            raise invalid_request(message)
        message = f"Association type {spec.type_id} is not valid from {from_type.singular.upper()}."
        raise invalid_request(message, code="INVALID_ASSOCIATION_TYPE")

    def _add(self, association_type: AssociationType) -> None:
        self._types[association_type.spec, association_type.from_type_id, association_type.to_type_id] = (
            association_type
        )
        if association_type.label is None:
            self._unlabelled.setdefault((association_type.from_type_id, association_type.to_type_id), association_type)

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number
