"""Merge rules and previous ids. The values of the primary record win."""

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
    """Ids of merged records, and the surviving id of each."""

    def __init__(self) -> None:
        self._survivors: dict[ObjectRef, str] = {}

    def __contains__(self, ref: ObjectRef) -> bool:
        return ref in self._survivors

    def retire(self, type_: ObjectType, old_id: str, survivor_id: str) -> None:
        """Map a merged record's id to the id it was merged into."""
        self._survivors[ObjectRef(type_.type_id, old_id)] = survivor_id

    def survivor_of(self, type_: ObjectType, id_: str) -> str:
        """Return the surviving id of a record after any number of merges."""
        while (following := self._survivors.get(ObjectRef(type_.type_id, id_))) is not None:
            id_ = following
        return id_


def check_merge(primary: CrmRecord, other: CrmRecord) -> None:
    """Check the merges that HubSpot refuses.

    Raises:
        HubSpotError: 400 for a record with itself, 414 past 250 merges.
    """
    if primary is other:
        raise invalid_request("Cannot merge an object with itself.")
    if len(primary.properties.get(_MERGED_IDS, "").split(";")) >= _MAX_MERGES:
        raise HubSpotError(HTTPStatus.REQUEST_URI_TOO_LONG, "VALIDATION_ERROR", "Too many merges for this record.")


def properties_moved(primary: CrmRecord, other: CrmRecord) -> dict[str, str]:
    """Return the values the primary record gains: those of properties it did not have."""
    return {name: value for name, value in other.properties.items() if name not in primary.properties}


def merged_ids(primary: CrmRecord, merged: Iterable[CrmRecord]) -> str:
    """Return the survivor's `hs_merged_object_ids`: every id that maps to it."""
    before = primary.properties.get(_MERGED_IDS, "").split(";")
    return ";".join([*filter(None, before), *(record.id for record in merged)])
