"""The records of one portal, and every operation on them. Each change is reported to `on_change`, in order.

An id belongs to a live record or an archived one, is a previous id of a merged record, or is unknown.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Final

from spokes.simulator.changes import AssociationEnd, Change, ChangeKind, ChangeSource, Merge, ObjectRef
from spokes.simulator.clock import Clock
from spokes.simulator.config import PortalConfig
from spokes.simulator.crm.association_store import AssociationStore
from spokes.simulator.crm.association_types import AssociationType, AssociationTypes
from spokes.simulator.crm.merging import PreviousIds, check_merge, merged_ids, properties_moved
from spokes.simulator.crm.object_types import CONTACT, STANDARD_TYPES, ObjectType, ObjectTypes
from spokes.simulator.crm.property_rules import accepted_changes, check_required
from spokes.simulator.crm.property_schema import PropertySchema
from spokes.simulator.crm.records import CrmRecord, iso
from spokes.simulator.crm.unique_values import UniqueValues
from spokes.simulator.errors import already_exists, invalid_request, object_not_found, value_not_unique

_FIRST_ID: Final = 318_845_000_000  # twelve digits, as in production


class CrmStore:
    """The CRM of one portal; `on_change` is called with every change in it."""

    def __init__(
        self,
        config: PortalConfig,
        clock: Clock,
        rng: Random,
        on_change: Callable[[Change], None],
        report_unknown: Callable[[ObjectType, str], None] = lambda _type, _name: None,
    ) -> None:
        """`report_unknown`: see PropertySchema."""
        self.types = ObjectTypes(config.custom_types, config.portal_id)
        self.associations = AssociationStore(AssociationTypes(), self._report_association)
        self.blocked_emails: set[str] = set()
        self._config = config
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._records: dict[str, dict[str, CrmRecord]] = {}
        self.previous_ids = PreviousIds()
        self._next_id = _FIRST_ID
        self.schema = PropertySchema.from_config(self.types, config, report_unknown)
        self.unique_values = UniqueValues(self.schema.unique_names)

    def find(
        self,
        type_: ObjectType,
        id_: str,
        *,
        id_property: str | None = None,
        archived: bool = False,
        merged: bool = True,
    ) -> CrmRecord | None:
        """Return the live record with that id or unique value, or the archived one if `archived`, or None.

        `merged` resolves the previous id of a merged record to its survivor, and finds a contact by each of its
        addresses; otherwise only the present id and the primary address count.

        Raises:
            HubSpotError: 400, `id_property` is not unique.
        """
        if id_property not in {None, "hs_object_id"}:
            if not self.unique_values.is_unique(type_, id_property or ""):
                raise invalid_request(f"Unable to perform update/upsert by non-unique {type_.type_id} property")
            value, id_ = id_.lower(), self.unique_values.holder(type_, id_property or "", id_) or ""
            holder = self._records.get(type_.type_id, {}).get(id_)
            if not merged and holder and holder.properties.get(id_property or "", "").lower() != value:
                return None
        if merged and self._config.follows_previous_ids:
            id_ = self.previous_ids.survivor_of(type_, id_)
        record = self._records.get(type_.type_id, {}).get(id_)
        return record if record is not None and record.archived == archived else None

    def get(self, type_: ObjectType, id_: str, *, id_property: str | None = None, archived: bool = False) -> CrmRecord:
        """Return the record that `find` returns, following merges.

        Raises:
            HubSpotError: 404.
        """
        record = self.find(type_, id_, id_property=id_property, archived=archived)
        if record is None:
            raise object_not_found(id_)
        return record

    def records(self, type_: ObjectType, *, archived: bool = False) -> Iterator[CrmRecord]:
        """Return all records of a type, in no particular order."""
        return (r for r in self._records.get(type_.type_id, {}).values() if r.archived == archived)

    def associated(self, ref: ObjectRef, to_type: ObjectType) -> list[tuple[str, list[AssociationType]]]:
        """Return the associated objects of one type that are not archived: ids and labels."""
        ends = self.associations.associations_of(ref, to_type)
        return [end for end in ends if self.find(to_type, end[0], merged=False) is not None]

    def all_records(self) -> Iterator[CrmRecord]:
        """Yield every record of every type, archived ones included."""
        for of_type in self._records.values():
            yield from of_type.values()

    def create(
        self, type_: ObjectType, properties: Mapping[str, object], source: ChangeSource, *, id_: str | None = None
    ) -> CrmRecord:
        """Create a record; `id_` is only for preparing a test.

        Raises:
            HubSpotError: 400 or 409; nothing was created.
        """
        changed = self.check_creation(type_, properties)
        record = self._insert_record(type_, id_)
        createdate = changed.pop("createdate", None)
        record.write(changed, record.created_at_ms, source)
        if createdate is not None:
            record.properties["createdate"] = createdate
        self.unique_values.assign(type_, record.id, changed)
        creation = self._build_change(ChangeKind.CREATION, record, source)
        self._on_change(replace(creation, at_ms=record.created_at_ms))
        if self._config.property_changes_on_create:
            self._report_property_changes(record, changed, source)
        return record

    def check_creation(self, type_: ObjectType, properties: Mapping[str, object]) -> dict[str, str]:
        """Return the values a new record would get.

        Raises:
            HubSpotError: 400 or 409.
        """
        check_required(type_, properties, self.schema)
        changed = accepted_changes(type_, {}, properties, self.schema)
        self._refuse_duplicates(type_, None, changed)
        return changed

    def update(self, record: CrmRecord, properties: Mapping[str, object], source: ChangeSource) -> CrmRecord:
        """Write properties of a live record; values equal to the current ones are not reported as changes.

        Raises:
            HubSpotError: 400 or 409; nothing was written.
        """
        changed = accepted_changes(record.type, record.properties, properties, self.schema)
        self._refuse_duplicates(record.type, record.id, changed)
        if changed:
            self.unique_values.release(record.type, record.id, changed)
            self.unique_values.assign(record.type, record.id, changed)
            record.write(changed, self._clock.now_ms(), source)
            self._report_property_changes(record, changed, source)
        return record

    def archive(self, record: CrmRecord, source: ChangeSource) -> None:
        """Move a record to the recycle bin and release its unique values."""
        record.archived_at_ms = self._clock.now_ms()
        self.unique_values.release(record.type, record.id)
        change = self._build_change(ChangeKind.DELETION, record, source)
        self._on_change(replace(change, at_ms=record.archived_at_ms))

    def restore(self, record: CrmRecord, source: ChangeSource) -> None:
        """Restore a record from the recycle bin.

        Raises:
            HubSpotError: 409, another record now has its e-mail address.
        """
        self._refuse_duplicates(record.type, record.id, record.properties)
        record.archived_at_ms = None
        self.unique_values.assign(record.type, record.id, record.properties)
        self._report_change(ChangeKind.RESTORE, record, source)

    def merge(self, primary: CrmRecord, other: CrmRecord, source: ChangeSource) -> CrmRecord:
        """Merge `other` into `primary`; the survivor gets a new id if the portal is configured so.

        Raises:
            HubSpotError: 400 for a record with itself, 414 past 250 merges.
        """
        type_ = primary.type
        check_merge(primary, other)
        merged_records = [other, primary] if self._config.merge_makes_new_id else [other]
        moved = properties_moved(primary, other)
        written = {**primary.properties, **moved, "hs_merged_object_ids": merged_ids(primary, merged_records)}
        survivor = self._insert_record(type_, None) if self._config.merge_makes_new_id else primary
        for record in merged_records:
            del self._records[type_.type_id][record.id]
            self.previous_ids.retire(type_, record.id, survivor.id)
            self.unique_values.move(type_, record.id, survivor.id)
            self.associations.move(record.ref, survivor.ref)
        survivor.write({**written, "hs_object_id": survivor.id}, self._clock.now_ms(), source)
        merge = Merge(primary.id, (other.id,), survivor.id, len(moved))
        change = self._build_change(ChangeKind.MERGE, survivor, source)
        self._on_change(replace(change, at_ms=survivor.updated_at_ms, merge=merge))
        return survivor

    def erase(self, record: CrmRecord, source: ChangeSource) -> None:
        """Erase a record for good, as a privacy deletion does; report that and the deletion, in random order."""
        del self._records[record.type.type_id][record.id]
        self.unique_values.release(record.type, record.id)
        self.associations.erase(record.ref)
        kinds = [ChangeKind.PRIVACY_DELETION, ChangeKind.DELETION]
        self._rng.shuffle(kinds)
        for kind in kinds:
            self._report_change(kind, record, source)

    def _insert_record(self, type_: ObjectType, id_: str | None) -> CrmRecord:
        if id_ is None:
            self._next_id += self._rng.randint(1, 97)
            id_ = str(self._next_id)
        elif id_ in self._records.get(type_.type_id, {}):
            raise already_exists(type_.singular.capitalize(), id_)
        now_ms = self._clock.now_ms()
        always = {"createdate": iso(now_ms), type_.last_modified: iso(now_ms), "hs_object_id": id_}
        record = CrmRecord(id_, type_, now_ms, now_ms, properties=always)
        self._records.setdefault(type_.type_id, {})[id_] = record
        return record

    def _refuse_duplicates(self, type_: ObjectType, id_: str | None, values: Mapping[str, str]) -> None:
        holder = self.unique_values.conflict(type_, id_, values)
        if holder is None:
            return
        if type_.type_id == CONTACT and holder.name == "email":
            raise already_exists("Contact", holder.object_id)
        raise value_not_unique(
            f"legacyObjectType={type_.singular.upper()}" if type_ in STANDARD_TYPES else type_.type_id,
            holder.name,
            holder.value,
            portal_id=self._config.portal_id,
            writer_id=id_ or str(self._next_id + 1),
            holder_id=holder.object_id,
        )

    def _report_property_changes(self, record: CrmRecord, changed: Mapping[str, str], source: ChangeSource) -> None:
        change = replace(self._build_change(ChangeKind.PROPERTY_CHANGE, record, source), at_ms=record.updated_at_ms)
        for name, value in changed.items():
            self._on_change(replace(change, property_name=name, property_value=value))

    def _report_change(self, kind: ChangeKind, record: CrmRecord, source: ChangeSource) -> None:
        self._on_change(self._build_change(kind, record, source))

    def _build_change(self, kind: ChangeKind, record: CrmRecord, source: ChangeSource) -> Change:
        return Change(kind, record.ref, source, self._clock.now_ms())

    def _report_association(self, from_: ObjectRef, end: AssociationEnd, source: ChangeSource) -> None:
        now_ms = self._clock.now_ms()
        self._on_change(Change(ChangeKind.ASSOCIATION_CHANGE, from_, source, now_ms, association=end))
