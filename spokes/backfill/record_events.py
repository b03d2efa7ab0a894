"""Events, in the form of HubSpot's requests, of what a record shows. Pure.

An event whose time and value the record's history names is the one that HubSpot sent, or would have sent: its event key
is equal, so it is processed once, by push or by backfill. A merge is dated by the contact's list of merged ids, or by
the history of the property that names them. Where a response has no history, the event states the present value, or the
merge, at the time of the record's last change.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from spokes.backfill.plan import BackfillPlan
from spokes.core.events import OBJECT_TYPES, RawEvent
from spokes.crm.transport.response_json import Json, elements, text_id

_TYPE_IDS: Final[Mapping[str, str]] = {name: type_id for type_id, name in OBJECT_TYPES.items()}
_CLASSIC: Final = frozenset({"contact", "company", "deal", "ticket", "product", "line_item"})
MERGED_IDS: Final = "hs_merged_object_ids"
MERGED_CONTACTS: Final = "hs_calculated_merged_vids"  # of contacts: id:epoch ms, separated by semicolons
CALCULATED_MS: Final = 60_000  # within which HubSpot has written a property that it calculates, such as the merged ids


class Interval(NamedTuple):
    """The changes to make events of: `since` <= t < `until` (epoch ms)."""

    since: int
    until: int

    def __contains__(self, at: object) -> bool:
        return isinstance(at, int) and self.since <= at < self.until


def record_events(
    plan: BackfillPlan,
    portal_id: int,
    record: Json,
    interval: Interval,
    known_merges: Collection[str] = (),
    *,
    is_dated_only: bool = False,
) -> Iterator[RawEvent]:
    """Yield the events of a record that exists.

    Args:
        plan: of its type.
        portal_id: of the record.
        record: as HubSpot returned it; with `propertiesWithHistory` if properties are read.
        interval: of the changes.
        known_merges: ids of merged records whose merge was received before.
        is_dated_only: leave out events whose time the record does not name.
    """
    if (object_id := _object_id(record)) is None:
        return
    created_at = creation_time(record)
    if plan.creations and created_at in interval:
        yield _event(plan, portal_id, "creation", object_id, created_at)
    for name in plan.properties:
        if is_dated_only and not has_history(record, name):
            continue
        if (change := _newest_change(record, name, interval)) is not None:
            at, fields = change
            yield _event(plan, portal_id, "propertyChange", object_id, at) | {"propertyName": name} | fields
    if plan.merges:
        yield from _merge_events(plan, portal_id, record, interval, known_merges, is_dated_only=is_dated_only)


def archived_events(plan: BackfillPlan, portal_id: int, record: Json, interval: Interval) -> Iterator[RawEvent]:
    """Yield the deletion of a record in the recycle bin, if it was deleted in the interval."""
    object_id, archived_at = _object_id(record), _epoch_ms(record.get("archivedAt"))
    if object_id is not None and archived_at in interval:
        yield _event(plan, portal_id, "deletion", object_id, archived_at)


def merged_ids(record: Json) -> tuple[str, ...]:
    """Return the ids of the records that were merged into a record."""
    ids = [_property(record, MERGED_IDS), _property(record, MERGED_CONTACTS)]
    parts = (part.partition(":")[0].strip() for text in ids for part in text.split(";"))
    return tuple(dict.fromkeys(part for part in parts if part.isascii() and part.isdecimal()))


def creation_time(record: Json) -> int:
    """Return when a record was created (epoch ms), 0 if it does not say."""
    return _epoch_ms(record.get("createdAt"))


def has_history(record: Json, name: str) -> bool:
    """Return whether a response has the history of a property; one that was never set may have none."""
    histories = record.get("propertiesWithHistory")
    return isinstance(histories, Mapping) and name in histories


def _newest_change(record: Json, name: str, interval: Interval) -> tuple[int, dict[str, object]] | None:
    """Return time and fields of a property's newest change in the interval, None if there is none."""
    if not has_history(record, name):  # the present value, at the last change
        at, value = _epoch_ms(record.get("updatedAt")), _property(record, name)
        return (at, {"propertyValue": value}) if at in interval else None
    history = elements(record["propertiesWithHistory"], name)
    changes = [(at, past) for past in history if (at := _epoch_ms(past.get("timestamp"))) in interval]
    if not changes:
        return None
    at, newest = max(changes, key=lambda change: change[0])
    source = newest.get("sourceType")
    fields: dict[str, object] = {"propertyValue": text_id(newest.get("value"))}
    return at, fields | ({"changeSource": source} if isinstance(source, str) else {})


def _merge_events(
    plan: BackfillPlan,
    portal_id: int,
    record: Json,
    interval: Interval,
    known: Collection[str],
    *,
    is_dated_only: bool,
) -> Iterator[RawEvent]:
    object_id = int(text_id(record["id"]))
    times = merge_times(record)
    updated_at = _epoch_ms(record.get("updatedAt"))
    near = Interval(interval.since, interval.until + CALCULATED_MS)
    by_time: dict[int, list[int]] = {}
    for merged_id in merged_ids(record):
        at = times.get(merged_id, updated_at)
        is_in_interval = at in near if merged_id in times else not is_dated_only
        if merged_id not in known and merged_id != str(object_id) and is_in_interval:
            by_time.setdefault(at, []).append(int(merged_id))
    for at, ids in by_time.items():
        yield _event(plan, portal_id, "merge", object_id, at) | {
            "primaryObjectId": object_id, "mergedObjectIds": ids, "newObjectId": object_id,
        }  # fmt: skip


def merge_times(record: Json) -> dict[str, int]:
    """Return by id when records were merged into this one: as the contact lists it, or its history first names it."""
    history = elements(record["propertiesWithHistory"], MERGED_IDS) if has_history(record, MERGED_IDS) else ()
    times: dict[str, int] = {}
    for past in history:
        if at := _epoch_ms(past.get("timestamp")):
            for merged_id in text_id(past.get("value")).split(";"):
                times[merged_id.strip()] = min(at, times.get(merged_id.strip(), at))
    named = (part.partition(":")[::2] for part in _property(record, MERGED_CONTACTS).split(";") if ":" in part)
    return times | {merged_id.strip(): int(at) for merged_id, at in named if at.isascii() and at.isdecimal()}


def _event(plan: BackfillPlan, portal_id: int, kind: str, object_id: int, at: int) -> dict[str, Any]:
    """Return the fields of every event, in the dialect that has the type."""
    is_classic = plan.object_type in _CLASSIC
    family = plan.object_type if is_classic else "object"
    type_id = {} if is_classic else {"objectTypeId": _TYPE_IDS.get(plan.object_type, plan.object_type)}
    common = {"portalId": portal_id, "occurredAt": at, "subscriptionType": f"{family}.{kind}", "objectId": object_id}
    return common | type_id


def _object_id(record: Json) -> int | None:
    text = text_id(record.get("id"))
    return int(text) if text.isascii() and text.isdecimal() and int(text) < 2**63 else None


def _property(record: Json, name: str) -> str:
    properties = record.get("properties")
    return text_id(properties.get(name)) if isinstance(properties, Mapping) else ""


def _epoch_ms(timestamp: object) -> int:
    """Return a timestamp in epoch ms, 0 if it is none; HubSpot writes ISO 8601, and in histories epoch ms too."""
    text = text_id(timestamp)
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0
