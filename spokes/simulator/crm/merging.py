"""What a merge makes of two records, and where their ids lead afterwards. Rule: the primary record's values win."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from spokes.simulator.changes import ObjectRef
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.errors import HubSpotError, invalid_request

_MAX_MERGES: Final = 250
_MERGED_IDS: Final = "hs_merged_object_ids"


class PreviousIds:
    """Ids that merges retired, and what became of each."""

    def __init__(self) -> None:
        self._survivors: dict[ObjectRef, str] = {}

    def __contains__(self, ref: ObjectRef) -> bool:
        return ref in self._survivors

    def retire(self, type_: ObjectType, old_id: str, survivor_id: str) -> None:
        """Let an id lead to another from now on."""
        self._survivors[ObjectRef(type_.type_id, old_id)] = survivor_id

    def survivor_of(self, type_: ObjectType, id_: str) -> str:
        """The id under which a record lives now, however often it was merged."""
        while (following := self._survivors.get(ObjectRef(type_.type_id, id_))) is not None:
            id_ = following
        return id_


def check_merge(primary: CrmRecord, other: CrmRecord) -> None:
    """Refuse what HubSpot refuses to merge.

    Raises:
        HubSpotError: 400 for a record with itself, 414 past 250 merges.
    """
    if primary is other:
        raise invalid_request("Cannot merge an object with itself.")
    if len(primary.properties.get(_MERGED_IDS, "").split(";")) >= _MAX_MERGES:
        raise HubSpotError(HTTPStatus.REQUEST_URI_TOO_LONG, "VALIDATION_ERROR", "Too many merges for this record.")


def properties_moved(primary: CrmRecord, other: CrmRecord) -> dict[str, str]:
    """What the primary record gains: values it did not have."""
    return {name: value for name, value in other.properties.items() if name not in primary.properties}


def merged_ids(primary: CrmRecord, gone: Iterable[CrmRecord]) -> str:
    """The survivor's `hs_merged_object_ids`: every id that leads to it."""
    before = primary.properties.get(_MERGED_IDS, "").split(";")
    return ";".join([*filter(None, before), *(record.id for record in gone)])
