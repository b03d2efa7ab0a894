"""What an event says about a record, and the state of HubSpot in which the event is true."""

from spokes.simulator.changes import ChangeKind, ChangeSource
from spokes.testing.hubspot import SimulatedHubSpot, SimulatedRecord, value_text
from spokes.testing.simulation.event_factory import EventSpec, split_event_type


def read_event(
    hubspot: SimulatedHubSpot,
    event_type: str,
    record: SimulatedRecord,
    *,
    property_name: str | None,
    value: str | None,
    to: SimulatedRecord | None,
    change_source: str,
) -> EventSpec:
    """Return what an event of this type says about a record.

    Raises:
        ValueError: the event type and the arguments do not fit together.
    """
    family, kind = split_event_type(event_type)
    type_ = hubspot.resolve(record.type_id)
    if family != "object" and hubspot.resolve(family) != type_:
        raise ValueError(f"{event_type} is no event of {record!r}: its events begin with {type_.singular}.")
    check_arguments(event_type, kind, has_property=property_name is not None, has_value=value is not None, to=to)
    if kind is ChangeKind.MERGE:
        raise ValueError("a merge concerns two records: use `await spokes.merge(primary, other)`.")
    current = "" if property_name is None else (record[property_name] if value is None else value_text(value))
    association = None
    if to is not None:
        target = hubspot.portal.crm.get(hubspot.resolve(to.type_id), to.id).ref
        association = (hubspot.association_type(record, to, None), target)
    source = ChangeSource(change_source, hubspot.source.source_id)
    return EventSpec(type_, kind, record.id, source, hubspot.now_ms(), property_name, current, association=association)


def check_arguments(
    event_type: str, kind: ChangeKind, *, has_property: bool, has_value: bool, to: SimulatedRecord | None
) -> None:
    """Check that an event has the arguments of its kind, and no others.

    Raises:
        ValueError: it has not.
    """
    is_change, is_association = kind is ChangeKind.PROPERTY_CHANGE, kind is ChangeKind.ASSOCIATION_CHANGE
    if is_change and not has_property:
        raise ValueError(f"{event_type} needs property=..., the name of the changed property.")
    if is_association and to is None:
        raise ValueError(f"{event_type} needs to=..., the record at the other end.")
    if has_property and not is_change:
        raise ValueError(f"{event_type}: property=... belongs to propertyChange, and to no other event.")
    if has_value and not is_change:
        raise ValueError(f"{event_type}: value=... belongs to propertyChange, and to no other event.")
    if to is not None and not is_association:
        raise ValueError(f"{event_type}: to=... belongs to associationChange, and to no other event.")


async def make_true(
    hubspot: SimulatedHubSpot,
    spec: EventSpec,
    record: SimulatedRecord,
    *,
    value: str | None,
    to: SimulatedRecord | None,
) -> None:
    """Bring HubSpot into the state that an event reports.

    Raises:
        HubSpotError: HubSpot would refuse the change.
    """
    store, type_, source = hubspot.portal.crm, spec.type_, spec.source
    live = store.find(type_, record.id)
    match spec.kind:
        case ChangeKind.PROPERTY_CHANGE if value is not None and spec.property_name is not None:
            await hubspot.objects(type_.type_id).update(record, {spec.property_name: value})
        case ChangeKind.DELETION if live is not None:
            await hubspot.change(lambda: store.archive(live, source))
        case ChangeKind.RESTORE if live is None:
            await hubspot.change(lambda: store.restore(store.get(type_, record.id, archived=True), source))
        case ChangeKind.PRIVACY_DELETION if live is not None:
            await hubspot.change(lambda: store.erase(live, source))
        case ChangeKind.ASSOCIATION_CHANGE if to is not None:
            if to not in hubspot.associated(record, to.type_id):
                await hubspot.associate(record, to)
        case _:
            pass
