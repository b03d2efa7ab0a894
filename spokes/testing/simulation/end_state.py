"""The records and associations of a simulated HubSpot, in a form in which two runs can be compared. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.crm.store import CrmStore

_VOLATILE: Final = frozenset(
    {"createdate", "hs_createdate", "lastmodifieddate", "hs_lastmodifieddate", "hs_object_id", "hs_timestamp"}
)  # each run has its own ids and times
_MAX_DIFFERENCES: Final = 5
_Content: TypeAlias = tuple[tuple[str, str], ...]


class EndState(NamedTuple):
    """The state after a run.

    Attributes:
        known: by type and id, the records that existed before the run; None for one that is gone.
        created: type and content of each record that the run created.
        associations: both ends of each association and its type; created records by content.
    """

    known: dict[tuple[str, str], _Content | None]
    created: "Counter[tuple[str, _Content]]"
    associations: "Counter[tuple[str, str, int]]"


def known_ids(store: CrmStore) -> frozenset[tuple[str, str]]:
    """Return type and id of every record."""
    return frozenset((record.type.plural, record.id) for record in store.all_records())


def end_state(store: CrmStore, known: frozenset[tuple[str, str]]) -> EndState:
    """Return the state of a HubSpot in which the records `known` existed before the run."""
    records = {(record.type.plural, record.id): record for record in store.all_records() if not record.archived}
    created = {name: record for name, record in records.items() if name not in known}
    names = {
        (record.type.type_id, record.id): _name(record, is_created=name in created) for name, record in records.items()
    }
    associations = Counter(
        (names[from_.type_id, from_.object_id], names[to.type_id, to.object_id], spec.type_id)
        for from_, to, specs in store.associations.all_associations()
        for spec in specs
        if (from_.type_id, from_.object_id) in names and (to.type_id, to.object_id) in names
    )
    return EndState(
        {name: _content(records[name]) if name in records else None for name in known},
        Counter((record.type.plural, _content(record)) for record in created.values()),
        associations,
    )


def differences(expected: EndState, actual: EndState) -> list[str]:
    """Return in what the actual state differs from the expected one; each difference is a piece of a sentence."""
    found = [*_changed(expected, actual), *_counted(expected, actual)]
    return found[:_MAX_DIFFERENCES]


def _changed(expected: EndState, actual: EndState) -> Iterator[str]:
    for (plural, object_id), content in sorted(expected.known.items()):
        other = actual.known.get((plural, object_id))
        if content is None or other is None:
            if content != other:
                yield f"{plural} {object_id} {'exists' if other else 'is gone'}"
            continue
        before, after = dict(content), dict(other)
        for name in sorted(before.keys() | after.keys()):
            if before.get(name, "") != after.get(name, ""):
                yield f"{name} of {plural} {object_id} is {after.get(name, '')!r} instead of {before.get(name, '')!r}"


def _counted(expected: EndState, actual: EndState) -> Iterator[str]:
    for plural, content in sorted(expected.created.keys() | actual.created.keys()):
        before, after = expected.created[plural, content], actual.created[plural, content]
        if before != after:
            yield f"there are {after} instead of {before} new {plural} with {dict(content)}"
    for ends in sorted(expected.associations.keys() | actual.associations.keys()):
        before, after = expected.associations[ends], actual.associations[ends]
        if before != after:
            yield f"there are {after} instead of {before} associations from {ends[0]} to {ends[1]}"


def _name(record: CrmRecord, *, is_created: bool) -> str:
    return f"{record.type.plural} {dict(_content(record)) if is_created else record.id}"


def _content(record: CrmRecord) -> _Content:
    return tuple(sorted((name, value) for name, value in record.properties.items() if name not in _VOLATILE))
