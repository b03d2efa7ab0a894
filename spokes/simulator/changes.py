"""What can happen in a CRM, as plain values. Rule: who hears of a change is decided elsewhere."""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, NamedTuple


@unique
class ChangeKind(StrEnum):
    """Kinds of change, spelled as the second half of HubSpot's subscription types."""

    CREATION = "creation"
    DELETION = "deletion"
    PROPERTY_CHANGE = "propertyChange"
    MERGE = "merge"
    RESTORE = "restore"
    ASSOCIATION_CHANGE = "associationChange"
    PRIVACY_DELETION = "privacyDeletion"
    NEW_MESSAGE = "newMessage"


class ChangeSource(NamedTuple):
    """Who made a change: HubSpot's `changeSource` and `sourceId`."""

    change_source: str
    source_id: str

    @property
    def user_action(self) -> str:
        """The `changeSource` of merges and associations, which HubSpot calls USER where others say CRM_UI."""
        return "USER" if self.change_source == "CRM_UI" else self.change_source


USER: Final = ChangeSource("CRM_UI", "userId:60718293")  # somebody in HubSpot's own pages
CONVERSATION: Final = "conversation"  # stands where others have an objectTypeId: threads are no CRM objects


class ObjectRef(NamedTuple):
    """One object: its objectTypeId and its id, both text."""

    type_id: str
    object_id: str


class AssociationSpec(NamedTuple):
    """One label of an association: HUBSPOT_DEFINED or USER_DEFINED, and its associationTypeId."""

    category: str
    type_id: int


@dataclass(frozen=True, slots=True)
class Merge:
    """Which records a merge folded together."""

    primary_id: str
    merged_ids: tuple[str, ...]
    new_id: str
    properties_moved: int


@dataclass(frozen=True, slots=True)
class AssociationEnd:
    """The far end of an association that was made or removed, seen from the object that changed."""

    to: ObjectRef
    spec: AssociationSpec
    removed: bool
    primary: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened to one object; `at_ms` since the epoch. Only its kind's own fields are filled."""

    kind: ChangeKind
    ref: ObjectRef
    source: ChangeSource
    at_ms: int
    property_name: str | None = None
    property_value: str | None = None
    merge: Merge | None = None
    association: AssociationEnd | None = None
    message_id: str | None = None
    message_type: str | None = None
