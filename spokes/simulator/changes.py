"""Changes in a CRM, as plain values. `webhooks.subscriptions` decides which events they cause."""

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
    """The author of a change: HubSpot's `changeSource` and `sourceId`."""

    change_source: str
    source_id: str

    @property
    def user_action(self) -> str:
        """The `changeSource` of merges and associations: HubSpot sends USER there where other events have CRM_UI."""
        return "USER" if self.change_source == "CRM_UI" else self.change_source


USER: Final = ChangeSource("CRM_UI", "userId:60718293")  # a user of HubSpot's own pages
CONVERSATION: Final = "conversation"  # in place of an objectTypeId, because threads are not CRM objects


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
    """The records that a merge combined, and the surviving id."""

    primary_id: str
    merged_ids: tuple[str, ...]
    new_id: str
    properties_moved: int


@dataclass(frozen=True, slots=True)
class AssociationEnd:
    """The other end of an association that was added or removed, seen from the object that changed."""

    to: ObjectRef
    spec: AssociationSpec
    removed: bool
    primary: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object; `at_ms` since the epoch. Only the fields of its kind are set."""

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
