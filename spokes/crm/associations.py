"""Associations between records, and HubSpot's own association type ids, by direction.

Ids are text; types go by any of their names. Adding a label keeps the labels that are there: a labelled PUT replaces
them, so they are sent again. Source: HubSpot's docs, "Associate records", and hubspot-api-client's AssociationType,
which agree.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from spokes.core.deprecation import deprecated_names
from spokes.core.errors import InvalidRequest
from spokes.crm.access import HandlerAccess, UnbatchedWriter, Write
from spokes.crm.batching.association_reads import AssociatedObject, Label, parse_label
from spokes.crm.object_types import plural, singular
from spokes.crm.results import texts_of
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.rate_budget import CallKind
from spokes.crm.transport.response_json import elements
from spokes.crm.values.object_ids import check_types, read_id

__all__ = ["AssociatedObject", "Associations", "Label"]

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
    # The id of the reverse direction is one less.
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


def associations_for_create(from_type: str, to: Mapping[str, Iterable[str]]) -> list[dict[str, object]]:
    """Return the `associations` of a new object, with `to` as ids by type.

    Raises:
        InvalidRequest: HubSpot has no association type of its own for the two types.
    """
    associations: list[dict[str, object]] = []
    for to_type, ids in to.items():
        type_id = TYPE_IDS.get((singular(from_type), singular(to_type)))
        if type_id is None:
            raise InvalidRequest(category="ASSOCIATION_TYPE")
        types = [association_type_json(type_id, "HUBSPOT_DEFINED")]
        associations += [{"to": {"id": read_id(to_id)}, "types": types} for to_id in texts_of(ids)]
    return associations


def association_type_json(type_id: int, category: str) -> dict[str, object]:
    """Return an association type as HubSpot takes it; `category` is HUBSPOT_DEFINED or USER_DEFINED."""
    return {"associationCategory": category, "associationTypeId": type_id}


if not TYPE_CHECKING:  # type checkers know the new name only
    __getattr__ = deprecated_names(__name__, {"Associated": "AssociatedObject"})


class Associations:
    """Associations between records, as one handler may read and write them."""

    def __init__(self, access: HandlerAccess) -> None:
        self._access = access
        self._paths = access.queues.paths

    async def list(self, from_type: str, from_id: str, to_type: str) -> tuple[str, ...]:
        """Return the ids of all objects of `to_type` associated with an object, with any label."""
        return tuple(associated.id for associated in await self.list_labelled(from_type, from_id, to_type))

    async def list_labelled(self, from_type: str, from_id: str, to_type: str) -> tuple[AssociatedObject, ...]:
        """Return all objects of `to_type` associated with an object, each with all its labels."""
        self._access.check_declared("associations.list")
        return await self._associated_objects(from_type, from_id, to_type)

    async def labels(self, from_type: str, to_type: str) -> tuple[Label, ...]:
        """Return every label that the portal has from one type to another, including the unlabelled association."""
        self._access.check_declared("associations.list")
        check_types(from_type, to_type)
        response = await self._access.send(ApiRequest("GET", self._paths.associations(from_type, to_type, "labels")))
        return tuple(map(parse_label, elements(response.body, "results")))

    async def associate(self, from_type: str, from_id: str, to_type: str, to_id: str, *labels: Label) -> None:
        """Associate two records; add `labels` to those they have, or make the default association if there are none.

        The present labels are read first, so a label that another writer adds to the same pair in between can be lost.
        """
        self._access.check_declared("associations.associate")
        check_types(from_type, to_type)
        from_id, to_id = read_id(from_id), read_id(to_id)
        if labels:
            present = await self._associated_objects(from_type, from_id, to_type)
            present_labels = (label for associated in present if associated.id == to_id for label in associated.labels)
            types = dict.fromkeys((label.type_id, label.category) for label in (*present_labels, *labels))
            path = self._paths.object_associations(from_type, from_id, plural(to_type), to_id)
            request = ApiRequest("PUT", path, body=[association_type_json(*type_) for type_ in types])
        else:
            path = self._paths.object_associations(from_type, from_id, "default", plural(to_type), to_id)
            request = ApiRequest("PUT", path)
        await self._write("associate", from_type, from_id, request)

    async def remove(self, from_type: str, from_id: str, to_type: str, to_id: str) -> None:
        """Remove the association of two records with all its labels."""
        self._access.check_declared("associations.remove")
        check_types(from_type, to_type)
        from_id, to_id = read_id(from_id), read_id(to_id)
        path = self._paths.object_associations(from_type, from_id, plural(to_type), to_id)
        await self._write("remove", from_type, from_id, ApiRequest("DELETE", path))

    async def remove_label(self, from_type: str, from_id: str, to_type: str, to_id: str, label: Label) -> None:
        """Remove one label; the other labels and the unlabelled association stay."""
        self._access.check_declared("associations.remove")
        check_types(from_type, to_type)
        from_id, to_id = read_id(from_id), read_id(to_id)
        path = self._paths.associations(from_type, to_type, "batch", "labels", "archive")
        types = [association_type_json(label.type_id, label.category)]
        body = {"inputs": [{"from": {"id": from_id}, "to": {"id": to_id}, "types": types}]}
        await self._write("remove", from_type, from_id, ApiRequest("POST", path, body=body), "associations")

    async def _associated_objects(self, from_type: str, from_id: str, to_type: str) -> tuple[AssociatedObject, ...]:
        check_types(from_type, to_type)
        queue = self._access.queues.associations(self._access.portal_id, from_type, to_type)
        return await queue.get(read_id(from_id), self._access.context.priority)

    async def _write(
        self, name: str, from_type: str, from_id: str, request: ApiRequest, kind: CallKind = "calls"
    ) -> None:
        write = Write(f"associations.{name}", singular(from_type), from_id)
        await self._access.perform(write, UnbatchedWriter(self._access, kind), from_id, request)
