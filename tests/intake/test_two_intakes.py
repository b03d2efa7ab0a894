"""One change has one event key, whichever intake reports it, and is admitted once, in either order."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from spokes.core.delivery import new_delivery_id
from spokes.core.events import OBJECT_TYPES, Event
from spokes.intake.admission import Admission
from spokes.intake.classification import AdmissionEvent, ClassifiedDelivery
from spokes.intake.event_keys import EventKeys
from spokes.intake.journal.entries import elements_of
from spokes.intake.journal.page_events import read_entries
from spokes.simulator.crm.records import iso
from tests.support.events import event

KEYS = EventKeys(b"secret")
PORTAL = 7
CLASSIC = {"0-1": "contact", "0-2": "company", "0-3": "deal", "0-5": "ticket", "0-7": "product", "0-8": "line_item"}
ACTIONS = {"creation": "CREATE", "deletion": "DELETE", "restore": "RESTORE", "privacyDeletion": "GDPR_DELETE"}

ids = st.integers(1, 2**53)
times = st.integers(1_700_000_000_000, 1_900_000_000_000)
type_ids = st.sampled_from([*OBJECT_TYPES, "2-1234567"])


class Reported(NamedTuple):
    """One change as HubSpot pushes and as it journals it."""

    pushed: dict[str, Any]
    journaled: dict[str, Any]


@st.composite
def spelled(draw: st.DrawFn, number: int) -> int | str:
    """Return an id as a number or as text."""
    return draw(st.sampled_from([number, str(number)]))


@st.composite
def head(draw: st.DrawFn, kind: str, type_id: str) -> Reported:
    """Return what is common to all kinds of one object, in either dialect."""
    at = draw(times)
    is_generic = type_id not in CLASSIC or draw(st.booleans())
    family = "object" if is_generic else CLASSIC[type_id]
    pushed = event(portalId=PORTAL, occurredAt=at, subscriptionType=f"{family}.{kind}")
    return Reported(
        pushed | ({"objectTypeId": type_id} if is_generic else {}),
        {"type": "crmObject", "portalId": PORTAL, "occurredAt": draw(st.sampled_from([iso(at), at]))},
    )


@st.composite
def object_changes(draw: st.DrawFn) -> Reported:
    """Return a creation, deletion, restoration or privacy deletion."""
    kind, type_id, object_id = draw(st.sampled_from([*ACTIONS])), draw(type_ids), draw(ids)
    pushed, journaled = draw(head(kind, type_id))
    return Reported(
        pushed | {"objectId": draw(spelled(object_id))},
        journaled | {"action": ACTIONS[kind], "objectTypeId": type_id, "objectId": draw(spelled(object_id))},
    )


@st.composite
def property_changes(draw: st.DrawFn) -> Reported:
    """Return a change of one property."""
    type_id, object_id, name = draw(type_ids), draw(ids), draw(st.sampled_from(["phone", "city"]))
    value = draw(st.none() | st.text(max_size=5) | st.integers(0, 9) | st.booleans())
    text = value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
    pushed, journaled = draw(head("propertyChange", type_id))
    journaled |= {"action": "UPDATE", "objectTypeId": type_id, "objectId": draw(spelled(object_id))}
    return Reported(
        pushed | {"objectId": object_id, "propertyName": name, "propertyValue": value},
        journaled | {"propertyChanges": {name: draw(st.sampled_from([value, text]))}},
    )


@st.composite
def merges(draw: st.DrawFn) -> Reported:
    """Return a merge whose survivor is the primary record or a new one."""
    type_id = draw(type_ids)
    primary, *losers = draw(st.lists(ids, min_size=2, max_size=4, unique=True))
    survivor = draw(st.sampled_from([primary, draw(ids)]))
    assume(survivor not in losers)
    pushed, journaled = draw(head("merge", type_id))
    pushed |= {"objectId": draw(st.sampled_from([survivor, primary])), "primaryObjectId": draw(spelled(primary))}
    pushed |= {"mergedObjectIds": losers, "newObjectId": draw(spelled(survivor)), "numberOfPropertiesMoved": 3}
    named = losers if primary == survivor and draw(st.booleans()) else [primary, *losers]
    named = [draw(spelled(number)) for number in draw(st.permutations(named))]
    journaled |= {"action": "MERGE", "objectTypeId": type_id, "objectId": survivor, "mergedObjectIds": named}
    return Reported(pushed, journaled | {"propertyChanges": {}})


@st.composite
def associations(draw: st.DrawFn) -> Reported:
    """Return an association that was added or removed, with or without a label, in the generic dialect."""
    from_type, to_type, at, from_id, to_id = draw(type_ids), draw(type_ids), draw(times), draw(ids), draw(ids)
    label, removed, primary = draw(st.integers(1, 500)), draw(st.booleans()), draw(st.booleans())
    category = draw(st.sampled_from(["HUBSPOT_DEFINED", "USER_DEFINED", "INTEGRATOR_DEFINED"]))
    ends = {"fromObjectTypeId": from_type, "toObjectTypeId": to_type, "associationCategory": category}
    pushed = event(
        portalId=PORTAL, occurredAt=at, subscriptionType="object.associationChange", objectId=None,
        fromObjectId=draw(spelled(from_id)), toObjectId=draw(spelled(to_id)), associationTypeId=draw(spelled(label)),
        associationRemoved=removed, isPrimaryAssociation=primary, **ends,
    )  # fmt: skip
    action = "ASSOCIATION_REMOVED" if removed else "ASSOCIATION_ADDED"
    journaled = {
        "type": "association", "portalId": PORTAL, "occurredAt": iso(at), "action": action, "isPrimary": primary,
        "fromObjectId": draw(spelled(from_id)), "toObjectId": draw(spelled(to_id)),
        "associationTypeId": draw(spelled(label)), **ends,
    }  # fmt: skip
    return Reported(pushed, journaled)


changes = st.one_of(object_changes(), property_changes(), merges(), associations())


def journal_event(entry: dict[str, Any]) -> Event:
    page = read_entries([orjson.dumps(entry)])
    assert not page.parsed.malformed
    (parsed,) = page.parsed.events
    return parsed


@given(changes)
def test_push_and_entry_of_one_change_have_one_key(change: Reported) -> None:
    assert KEYS(Event(change.pushed)) == KEYS(journal_event(change.journaled))


@given(changes, changes)
def test_entries_of_different_changes_have_different_keys(one: Reported, other: Reported) -> None:
    pushed, entry = dict(one.pushed), other.journaled
    assume(elements_of(one.journaled) != elements_of(entry))
    assume((pushed["occurredAt"], pushed.get("objectId")) != (journal_event(entry).occurred_at, entry.get("objectId")))
    assert KEYS(Event(pushed)) != KEYS(journal_event(entry))


@given(merges())
def test_merge_of_other_records_has_a_different_key(change: Reported) -> None:
    entry = {**change.journaled, "mergedObjectIds": [*change.journaled["mergedObjectIds"], 2**54]}
    assert KEYS(journal_event(entry)) != KEYS(Event(change.pushed))


@given(merges())
def test_merge_is_known_by_the_keys_that_earlier_versions_gave_it(change: Reported) -> None:
    assume(len(change.pushed["mergedObjectIds"]) == 1)
    pushed, journaled = Event(change.pushed), journal_event(change.journaled)
    assert not set(KEYS.former(pushed)).isdisjoint(KEYS.former(journaled))
    assert KEYS(pushed) not in KEYS.former(pushed)


@given(object_changes())
def test_kinds_whose_format_is_unchanged_have_no_former_key(change: Reported) -> None:
    assert KEYS.former(Event(change.pushed)) == ()


def delivery(*events: Event) -> ClassifiedDelivery:
    admitted = [AdmissionEvent(KEYS(each), each.occurred_at, each.raw, KEYS.further(each)) for each in events]
    return ClassifiedDelivery(new_delivery_id(PORTAL), PORTAL, time.time_ns() // 10**6, admitted, len(events))


async def admitted(admission: Admission, *events: Event) -> int:
    return len((await admission.admit(delivery(*events))).events)


def examples(kind: st.SearchStrategy[Reported], count: int) -> list[Reported]:
    """Return some changes of a kind, the same in each run."""
    found: list[Reported] = []

    @settings(max_examples=count, derandomize=True, database=None)
    @given(kind)
    def collect(change: Reported) -> None:
        found.append(change)

    collect()
    return found


@pytest.mark.parametrize("kind", [object_changes(), property_changes(), merges(), associations()])
@pytest.mark.parametrize("is_journal_first", [False, True])
async def test_change_that_comes_by_both_intakes_is_admitted_once(
    redis: Redis, admission: Admission, kind: st.SearchStrategy[Reported], is_journal_first: bool
) -> None:
    counts = []
    for change in examples(kind, 30):
        await redis.flushall()
        both = [Event(change.pushed), journal_event(change.journaled)]
        counts.append([await admitted(admission, each) for each in (both[::-1] if is_journal_first else both)])
    assert counts == [[1, 0]] * len(counts)


@pytest.mark.parametrize("kind", [property_changes(), merges(), associations()])
async def test_event_that_an_earlier_version_admitted_is_known(
    admission: Admission, redis: Redis, kind: st.SearchStrategy[Reported]
) -> None:
    for change in examples(kind, 30):
        await redis.flushall()
        pushed = Event(change.pushed)
        for former in KEYS.former(pushed)[:1]:
            assert await admit_keys(admission, pushed, [former]) == 1
            assert await admitted(admission, pushed) == 0


async def test_earlier_version_knows_what_is_admitted_here(admission: Admission) -> None:
    merge = Event(event(portalId=PORTAL, subscriptionType="contact.merge", objectId=9, primaryObjectId=9,
                        mergedObjectIds=[8], newObjectId=9))  # fmt: skip
    assert await admitted(admission, merge) == 1
    assert await admit_keys(admission, merge, KEYS.former(merge)[:1]) == 0


async def admit_keys(admission: Admission, parsed: Event, keys: Sequence[str]) -> int:
    """Admit an event under keys of an earlier version; return how many are new."""
    events = [AdmissionEvent(key, parsed.occurred_at, parsed.raw) for key in keys]
    old = ClassifiedDelivery(new_delivery_id(PORTAL), PORTAL, time.time_ns() // 10**6, events, len(events))
    return len((await admission.admit(old)).events)


def merge_of(retired: list[int], survivor: int = 76, *, at: int = 1_795_442_400_000) -> Event:
    """Return the journal's event of a merge."""
    return journal_event({
        "type": "crmObject", "portalId": PORTAL, "occurredAt": at, "action": "MERGE", "objectTypeId": "0-1",
        "objectId": survivor, "mergedObjectIds": retired,
    })  # fmt: skip


PUSHED = Event(event(portalId=PORTAL, occurredAt=1_795_442_400_000, subscriptionType="contact.merge", objectId=76,
                     primaryObjectId=71, mergedObjectIds=[74], newObjectId=76))  # fmt: skip


@pytest.mark.parametrize("retired", [[74], [71], [71, 74], [74, 71]])
async def test_entry_that_leaves_out_a_record_of_a_known_merge_is_known(
    admission: Admission, retired: list[int]
) -> None:
    assert (await admitted(admission, PUSHED), await admitted(admission, merge_of(retired))) == (1, 0)


@pytest.mark.parametrize(
    "other", [merge_of([74], survivor=77), merge_of([75]), merge_of([74], at=1_795_442_400_001), merge_of([71, 74, 75])]
)
async def test_other_merge_is_not_covered(admission: Admission, other: Event) -> None:
    assert (await admitted(admission, PUSHED), await admitted(admission, other)) == (1, 1)


async def test_merge_that_names_more_records_runs_after_one_that_names_less(admission: Admission) -> None:
    assert (await admitted(admission, merge_of([74])), await admitted(admission, PUSHED)) == (1, 1)
    assert await admitted(admission, PUSHED, merge_of([74])) == 0


async def test_covered_merge_in_one_request_with_its_merge_is_known(admission: Admission) -> None:
    assert await admitted(admission, PUSHED, merge_of([74])) == 1


async def test_known_merge_in_a_request_leaves_its_other_events_of_other_hours(admission: Admission) -> None:
    merge = Event(event(portalId=PORTAL, subscriptionType="contact.merge", objectId=9, primaryObjectId=9,
                        mergedObjectIds=[8], newObjectId=9))  # fmt: skip
    others = [Event(event(number * 3_600_000, portalId=PORTAL)) for number in (0, 1, 2)]
    await admitted(admission, merge)
    stored = await admission.admit(delivery(others[0], merge, *others[1:]))
    assert [each.key for each in stored.events] == [KEYS(each) for each in others]
    assert await admitted(admission, *others) == 0


@pytest.mark.parametrize(
    ("named", "from_type", "to_type", "label", "is_primary"),
    [("CONTACT_TO_COMPANY", "0-1", "0-2", 279, False), ("CONTACT_TO_COMPANY", "0-1", "0-2", 1, True),
     ("DEAL_TO_CONTACT", "0-3", "0-1", 3, False), ("TICKET_TO_COMPANY", "0-5", "0-2", 339, False),
     ("DEAL_TO_LINE_ITEM", "0-3", "0-8", 19, False)],
)  # fmt: skip
def test_association_in_the_classic_dialect_has_the_key_of_its_entry(
    named: str, from_type: str, to_type: str, label: int, is_primary: bool
) -> None:
    pushed = event(
        portalId=PORTAL, subscriptionType=f"{CLASSIC[from_type]}.associationChange", objectId=None, fromObjectId=1,
        toObjectId=2, associationType=named, associationRemoved=True, isPrimaryAssociation=is_primary,
    )  # fmt: skip
    entry = {
        "type": "association", "portalId": PORTAL, "occurredAt": pushed["occurredAt"], "action": "ASSOCIATION_REMOVED",
        "fromObjectTypeId": from_type, "fromObjectId": 1, "toObjectTypeId": to_type, "toObjectId": 2,
        "associationTypeId": label, "associationCategory": "HUBSPOT_DEFINED", "isPrimary": is_primary,
    }  # fmt: skip
    assert KEYS(Event(pushed)) == KEYS(journal_event(entry))
