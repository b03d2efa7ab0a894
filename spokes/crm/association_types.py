"""HubSpot's own association types, by direction. Rule: a number stands here once, with the pair it belongs to.

Source: HubSpot's docs, "Associate records", and hubspot-api-client's AssociationType, which agree.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from spokes.core.errors import InvalidRequest
from spokes.crm.object_types import singular

_RECORDS: Final = ("contact", "company", "deal", "ticket")
_ACTIVITIES: Final[Mapping[str, tuple[int, int, int, int]]] = {
    "note": (202, 190, 214, 228),
    "task": (204, 192, 216, 230),
    "call": (194, 182, 206, 220),
    "email": (198, 186, 210, 224),
    "meeting": (200, 188, 212, 226),
}
TYPE_IDS: Final[Mapping[tuple[str, str], int]] = {
    **{(a, record): i for a, row in _ACTIVITIES.items() for record, i in zip(_RECORDS, row, strict=True)},
    # The reverse of each is the number before it.
    **{(record, a): i - 1 for a, row in _ACTIVITIES.items() for record, i in zip(_RECORDS, row, strict=True)},
    ("contact", "company"): 279, ("company", "contact"): 280,
    ("contact", "deal"): 4, ("deal", "contact"): 3,
    ("contact", "ticket"): 15, ("ticket", "contact"): 16,
    ("company", "deal"): 342, ("deal", "company"): 341,
    ("company", "ticket"): 340, ("ticket", "company"): 339,
    ("deal", "ticket"): 27, ("ticket", "deal"): 28,
    ("deal", "line_item"): 19, ("line_item", "deal"): 20,
    ("contact", "contact"): 449, ("company", "company"): 450,
    ("deal", "deal"): 451, ("ticket", "ticket"): 452,
}  # fmt: skip


def on_create(from_type: str, to: Mapping[str, Iterable[str]]) -> list[dict[str, object]]:
    """Return the `associations` of a new object: to which ids of which types it belongs.

    Raises:
        InvalidRequest: HubSpot has no type of its own for such a pair.
    """
    associations: list[dict[str, object]] = []
    for to_type, ids in to.items():
        type_id = TYPE_IDS.get((singular(from_type), singular(to_type)))
        if type_id is None:
            raise InvalidRequest(category="ASSOCIATION_TYPE")
        types = [label(type_id, "HUBSPOT_DEFINED")]
        associations += [{"to": {"id": to_id}, "types": types} for to_id in _ids(ids)]
    return associations


def label(type_id: int, category: str) -> dict[str, object]:
    """Return an association type as HubSpot takes it; `category` is HUBSPOT_DEFINED or USER_DEFINED."""
    return {"associationCategory": category, "associationTypeId": type_id}


def _ids(ids: Iterable[str]) -> Iterable[str]:
    return (ids,) if isinstance(ids, str) else ids
