"""The simulated HubSpot as a test sees it: `spokes.hubspot.contacts.create(...)`, `spokes.hubspot.contacts[id]`."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from spokes.simulator.changes import USER, AssociationSpec, ChangeSource
from spokes.simulator.crm.association_types import AssociationType
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.errors import HubSpotError
from spokes.simulator.portal import Portal
from spokes.simulator.property_definition import PropertyDefinition
from spokes.testing.event_loop.background_loop import BackgroundLoop

PropertyInput: TypeAlias = str | int | float | bool | None
_Result = TypeVar("_Result")
_log: Final = logging.getLogger("spokes.testing")
_ACTIVITY_TIME: Final = "hs_timestamp"


class SimulatedRecord:
    """One record of the account `hubspot`. `record["phone"]` is its value now, empty if the property is unset."""

    def __init__(self, hubspot: "SimulatedHubSpot", type_: ObjectType, object_id: str) -> None:
        self.id = object_id
        self.hubspot = hubspot
        self._type = type_

    @property
    def object_type(self) -> str:
        """The plural name of its type, such as `contacts`; the id of a custom one, such as `2-123`."""
        return self._type.plural

    @property
    def type_id(self) -> str:
        """HubSpot's objectTypeId, such as `0-1`."""
        return self._type.type_id

    @property
    def exists(self) -> bool:
        """Whether HubSpot returns it: it is not archived, merged into another record, or erased."""
        return self.hubspot.find(self._type, self.id) is not None

    @property
    def is_archived(self) -> bool:
        """Whether it is in HubSpot's recycle bin."""
        return self.hubspot.find(self._type, self.id, archived=True) is not None

    @property
    def properties(self) -> dict[str, str]:
        """Its properties that are set, by name.

        Raises:
            KeyError: HubSpot has no such record (any more).
        """
        record = self.hubspot.find(self._type, self.id) or self.hubspot.find(self._type, self.id, archived=True)
        if record is None:
            raise KeyError(f"HubSpot has no record {self.id} of {self.object_type}: it was merged or erased.")
        return dict(record.properties)

    def __getitem__(self, name: str) -> str:
        """Return a property's value, empty if it is unset."""
        return self.properties.get(name, "")

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same record."""
        if not isinstance(other, SimulatedRecord):
            return NotImplemented
        return (self.hubspot.portal_id, self.type_id, self.id) == (other.hubspot.portal_id, other.type_id, other.id)

    def __hash__(self) -> int:
        return hash((self.type_id, self.id))

    def __repr__(self) -> str:
        return f"<{self.object_type} {self.id}>"


class SimulatedObjects:
    """All records of one object type: create and change them as a person in HubSpot does, and read them."""

    def __init__(self, hubspot: "SimulatedHubSpot", type_: ObjectType) -> None:
        self._hubspot = hubspot
        self._type = type_

    async def create(
        self, properties: Mapping[str, PropertyInput] | None = None, /, **more: PropertyInput
    ) -> SimulatedRecord:
        """Create a record and return it. HubSpot sends no event for it: `spokes.deliver` does.

        Raises:
            HubSpotError: HubSpot would refuse it; the sentence is HubSpot's.
        """
        values = _texts({**(properties or {}), **more})
        if _ACTIVITY_TIME in self._type.required_properties:
            values.setdefault(_ACTIVITY_TIME, str(self._hubspot.now_ms()))
        store, source = self._hubspot.portal.crm, self._hubspot.source
        record = await self._hubspot.change(lambda: store.create(self._type, values, source))
        return SimulatedRecord(self._hubspot, self._type, record.id)

    async def update(
        self,
        record: SimulatedRecord | str,
        properties: Mapping[str, PropertyInput] | None = None,
        /,
        **more: PropertyInput,
    ) -> None:
        """Set properties of a record; None or an empty text clears one.

        Raises:
            HubSpotError: HubSpot would refuse it.
        """
        values, store = _texts({**(properties or {}), **more}), self._hubspot.portal.crm
        source, object_id = self._hubspot.source, id_of(record)
        await self._hubspot.change(lambda: store.update(store.get(self._type, object_id), values, source))

    async def archive(self, record: SimulatedRecord | str) -> None:
        """Move a record to the recycle bin.

        Raises:
            HubSpotError: there is no such record.
        """
        store, source, object_id = self._hubspot.portal.crm, self._hubspot.source, id_of(record)
        await self._hubspot.change(lambda: store.archive(store.get(self._type, object_id), source))

    def __getitem__(self, record: SimulatedRecord | str) -> SimulatedRecord:
        """Return the record with this id; the id of a merged record returns the surviving one.

        Raises:
            KeyError: there is none.
        """
        stored = self._hubspot.find(self._type, id_of(record))
        if stored is None:
            raise KeyError(f"HubSpot has no record {id_of(record)} of {self._type.plural}.")
        return SimulatedRecord(self._hubspot, self._type, stored.id)

    def __contains__(self, record: object) -> bool:
        """Return whether HubSpot has this record or id."""
        return isinstance(record, SimulatedRecord | str) and (self._hubspot.find(self._type, id_of(record)) is not None)

    def __iter__(self) -> Iterator[SimulatedRecord]:
        """Iterate over the records that are not archived, the oldest first."""
        records = sorted(self._hubspot.portal.crm.records(self._type), key=lambda record: int(record.id))
        return iter([SimulatedRecord(self._hubspot, self._type, record.id) for record in records])

    def __len__(self) -> int:
        return sum(1 for _ in self._hubspot.portal.crm.records(self._type))


class SimulatedSchema:
    """The account's properties: `spokes.hubspot.schema.add("contacts", "erp_id", unique=True)`.

    HubSpot's standard properties exist already. A type of your own (`2-123`) takes any property until you add one.
    """

    def __init__(self, hubspot: "SimulatedHubSpot") -> None:
        self._hubspot = hubspot

    def add(
        self,
        object_type: str,
        name: str,
        kind: str = "string",
        *,
        options: Sequence[str] = (),
        unique: bool = False,
        read_only: bool = False,
    ) -> None:
        """Add a property of your own to an object type.

        Args:
            object_type: such as contacts, or a custom type's id.
            name: as handlers write it.
            kind: string, number, date, datetime, bool, enumeration or phone_number.
            options: values that an enumeration allows.
            unique: no two records have the same value.
            read_only: HubSpot calculates it, and refuses to write it.

        Raises:
            HubSpotError: HubSpot would refuse it, or the property exists.
            ValueError: HubSpot has no such object type.
        """
        definition = PropertyDefinition(kind, tuple(options), read_only=read_only, unique=unique)
        self._hubspot.portal.crm.schema.add(self._hubspot.resolve(object_type), name, definition)

    def add_options(self, object_type: str, name: str, *options: str) -> None:
        """Add options to an enumeration, such as the stage of a pipeline of your own to `dealstage`.

        Raises:
            HubSpotError: the type has no such enumeration.
            ValueError: HubSpot has no such object type.
        """
        self._hubspot.portal.crm.schema.add_options(self._hubspot.resolve(object_type), name, options)


class SimulatedHubSpot:
    """One simulated HubSpot account. Its records are empty at the beginning of each test."""

    def __init__(self, portal: Portal, loop: BackgroundLoop, now_ms: Callable[[], int]) -> None:
        self.portal = portal
        self.now_ms = now_ms
        self.source: ChangeSource = USER
        self.schema = SimulatedSchema(self)
        portal.report_unknown_property = _log_unknown_property
        self._loop = loop

    @property
    def portal_id(self) -> int:
        """The account's id."""
        return self.portal.config.portal_id

    def objects(self, object_type: str) -> SimulatedObjects:
        """Records of any type: by name, or by id as `2-123` for a custom one.

        Raises:
            ValueError: HubSpot has no such type.
        """
        return SimulatedObjects(self, self.resolve(object_type))

    @property
    def contacts(self) -> SimulatedObjects:
        """Contacts."""
        return self.objects("contacts")

    @property
    def companies(self) -> SimulatedObjects:
        """Companies."""
        return self.objects("companies")

    @property
    def deals(self) -> SimulatedObjects:
        """Deals."""
        return self.objects("deals")

    @property
    def tickets(self) -> SimulatedObjects:
        """Tickets."""
        return self.objects("tickets")

    @property
    def products(self) -> SimulatedObjects:
        """Products."""
        return self.objects("products")

    @property
    def line_items(self) -> SimulatedObjects:
        """Line items."""
        return self.objects("line_items")

    @property
    def notes(self) -> SimulatedObjects:
        """Notes."""
        return self.objects("notes")

    @property
    def tasks(self) -> SimulatedObjects:
        """Tasks."""
        return self.objects("tasks")

    @property
    def calls(self) -> SimulatedObjects:
        """Phone calls that people logged."""
        return self.objects("calls")

    @property
    def emails(self) -> SimulatedObjects:
        """E-mails."""
        return self.objects("emails")

    async def associate(self, record: SimulatedRecord, to: SimulatedRecord, *, type_id: int | None = None) -> None:
        """Associate two records; with `type_id` by that associationTypeId of HubSpot, else without a label."""
        store = self.portal.crm
        kind = self.association_type(record, to, type_id)
        source = self.source
        ends = (store.get(record._type, record.id).ref, store.get(to._type, to.id).ref)  # noqa: SLF001 - of this module
        await self.change(lambda: store.associations.add(*ends, [kind], source))

    def associated(self, record: SimulatedRecord, to_type: str) -> list[SimulatedRecord]:
        """Return the records of one type that a record is associated with."""
        store, type_ = self.portal.crm, self.resolve(to_type)
        stored = store.get(record._type, record.id)  # noqa: SLF001 - of this module
        return [SimulatedRecord(self, type_, object_id) for object_id, _ in store.associated(stored.ref, type_)]

    def association_type(self, record: SimulatedRecord, to: SimulatedRecord, type_id: int | None) -> AssociationType:
        """Return HubSpot's type of an association between two records.

        Raises:
            HubSpotError: no such associationTypeId.
        """
        types = self.portal.crm.associations.types
        if type_id is None:
            return types.unlabelled(record.type_id, to.type_id)
        return types.find(AssociationSpec("HUBSPOT_DEFINED", type_id), record._type, to._type)  # noqa: SLF001 - of this module

    def find(self, type_: ObjectType, object_id: str, *, archived: bool = False) -> CrmRecord | None:
        """Return a record as the simulator stores it."""
        return self.portal.crm.find(type_, object_id, archived=archived)

    def resolve(self, object_type: str) -> ObjectType:
        """Return an object type by any of its names.

        Raises:
            ValueError: HubSpot has no such type.
        """
        try:
            return self.portal.crm.types.resolve(object_type)
        except HubSpotError:
            raise ValueError(
                f"{object_type!r} is no object type of HubSpot: write a name such as contact, or a custom type's id."
            ) from None

    async def change(self, function: Callable[[], _Result]) -> _Result:
        """Change the account in the thread in which the simulator runs."""
        return await self._loop.call(function)


def _log_unknown_property(type_: ObjectType, name: str) -> None:
    """Log how a test adds a property that was refused; pytest shows it with a failed test."""
    _log.warning(
        "HubSpot has no property %r of %s and refuses it. If your account has it, add it in the test: "
        "spokes.hubspot.schema.add(%r, %r)",
        name,
        type_.plural,
        type_.plural,
        name,
    )


def id_of(record: SimulatedRecord | str) -> str:
    """Return the id of a record or of an id."""
    return record.id if isinstance(record, SimulatedRecord) else record


def _texts(properties: Mapping[str, PropertyInput]) -> dict[str, str]:
    """Return property values as HubSpot stores them."""
    return {name: value_text(value) for name, value in properties.items()}


def value_text(value: PropertyInput) -> str:
    """Return a property value as HubSpot stores it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
