"""Comparison of the audit with the state expected from the simulator alone.

The event types that handlers register for are deliberately listed here again: if the project lost one, the comparison
would fail.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from spokes.simulator.app import Simulator
from spokes.simulator.changes import ObjectRef
from spokes.simulator.crm.object_types import COMPANY, CONTACT, DEAL, TICKET
from spokes.simulator.demo.people import People
from spokes.simulator.demo.scenario import Scenario
from spokes.simulator.errors import JsonObject
from spokes.simulator.webhooks.delivery_log import Attempt

EventIdentityKey: TypeAlias = tuple[object, ...]  # equal for redeliveries of one event

_FAMILIES: Final = {CONTACT: "contact", COMPANY: "company", DEAL: "deal", TICKET: "ticket"}
REGISTERED_TYPES: Final = frozenset(
    {
        "contact.creation", "contact.restore", "contact.merge", "contact.privacyDeletion",
        "contact.propertyChange:phone",
        "company.creation", "company.restore", "company.merge", "company.propertyChange:domain",
        "deal.creation", "deal.propertyChange:dealstage", "ticket.propertyChange:hs_pipeline_stage",
    }
)  # fmt: skip
_TERMINAL: Final = frozenset({"processed", "superseded", "coalesced", "echo", "merged", "dead", "discarded"})
_REASONS: Final[Mapping[str, str]] = {
    "forged": "signature_mismatch",
    "tampered": "signature_mismatch",
    "wrong_uri": "signature_mismatch",
    "unsigned": "signature_missing",
    "stale": "timestamp_stale",
    "future": "timestamp_in_future",
}


class DemoDay(Protocol):
    """What `ExpectedState` needs of a run: the simulator, its users, and requests that bypassed the sender's queue."""

    sim: Simulator
    people: People
    manual_requests: list[tuple[Attempt, list[JsonObject]]]


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One row of the comparison; `differing` lists the items on which the two sides disagree."""

    name: str
    reported: object
    expected: object
    differing: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether both sides are equal."""
        return self.reported == self.expected and not self.differing


class ExpectedState:
    """Everything the receiver acknowledged, and the expected outcome of each event."""

    def __init__(self, scenario: DemoDay, registered: frozenset[str] = REGISTERED_TYPES) -> None:
        """Derive the state from `scenario`, whose handlers are registered for the types `registered`."""
        self._scenario = scenario
        requests = list(_acknowledged(scenario))
        elements = [element for request in requests for element in request]
        self.requests = len(requests)
        self.received = len(elements)
        events = [element for element in elements if "eventId" in element]
        self.malformed = len(elements) - len(events)
        registered_elements = [element for element in events if registration_of(element) in registered]
        self.ignored = len(events) - len(registered_elements)
        self.identities = {
            (element.get("portalId"), element["eventId"]): _identity_key(element) for element in registered_elements
        }
        self.outcomes = {_identity_key(element): self._expected_outcome(element) for element in registered_elements}
        self.duplicates = len(registered_elements) - len(self.outcomes)

    def _expected_outcome(self, element: JsonObject) -> str:
        people = self._scenario.people
        if element["eventId"] in people.stale_event_ids:
            return "superseded"
        if "propertyName" in element and element.get("changeSource") == "INTEGRATION":
            return "echo"
        return "dead" if str(element.get("objectId")) in people.deleted_contacts else "processed"

    def count_settled(self, records: Iterable[JsonObject]) -> int:
        """Return the number of these events that have a final outcome in the audit."""
        return len(
            self.outcomes.keys() & {self.identity(record) for record in records if record["outcome"] in _TERMINAL}
        )

    def identity(self, record: JsonObject) -> EventIdentityKey:
        """Return the key of the event that an audit record is about."""
        return self.identities.get((record["portal_id"], record["event_id"]), (record["event_id"],))


def compare(scenario: Scenario, records: list[JsonObject], *, chain_intact: bool) -> Iterator[ComparisonRow]:
    """Yield the rows that compare the audit's records with the expected state."""
    expected_state, people = ExpectedState(scenario), scenario.people
    heads = [record["detail"] for record in records if record["action"] == "delivery.received"]
    requests = sum(len(head.get("requests", ())) or 1 for head in heads)  # one delivery may hold several
    yield ComparisonRow("requests acknowledged", requests, expected_state.requests)
    yield ComparisonRow("events in them", sum(head.get("received", 0) for head in heads), expected_state.received)
    yield ComparisonRow(
        "ignored: no handler registered",
        sum(sum(head.get("ignored", {}).values()) for head in heads),
        expected_state.ignored,
    )
    duplicates = sum(head.get("duplicate", 0) for head in heads)
    yield ComparisonRow("duplicates dropped", duplicates, expected_state.duplicates)
    yield ComparisonRow("malformed elements quarantined", _count(records, "quarantined"), expected_state.malformed)
    yield from _refusal_rows(scenario, records)
    yield from _outcome_rows(expected_state, records)
    yield ComparisonRow("events with more than one final outcome", _settled_twice(records), 0)
    contacts = _objects_changed(scenario, CONTACT) - people.erased_contacts
    yield _set_row("contacts written", _objects_written(records, "contacts.update") - people.erased_contacts, contacts)
    yield _set_row(
        "companies written", _objects_written(records, "companies.update"), _objects_changed(scenario, COMPANY)
    )
    yield _set_row(
        "won deals with one task", _objects_with_creation(records, "tasks.create"), _deals_with_one_task(people)
    )
    yield _set_row(
        "closed tickets with one note", _objects_with_creation(records, "notes.create"), _tickets_with_one_note(people)
    )
    yield ComparisonRow("phones that are not in E.164", 0, *wrong_values(people, "contacts", "phone", people.phones))
    yield ComparisonRow("domains that are not bare", 0, *wrong_values(people, "companies", "domain", people.domains))
    yield ComparisonRow("the audit's chain", "intact" if chain_intact else "broken", "intact")


def _acknowledged(scenario: DemoDay) -> Iterator[list[JsonObject]]:
    """Yield the elements of every correctly signed request that was acknowledged with 2xx."""
    deliveries = scenario.sim.deliveries
    by_serial = {event.serial: event.element for event in deliveries.events}
    for attempt in deliveries.attempts:
        if attempt.acknowledged and attempt.serials:
            yield [element for serial in attempt.serials if isinstance(element := by_serial[serial], dict)]
    yield from (elements for attempt, elements in scenario.manual_requests if attempt.acknowledged and elements)


def registration_of(element: JsonObject) -> str:
    """Return the event type by which a handler registers for the element, in either of HubSpot's dialects."""
    family, _, kind = element["subscriptionType"].partition(".")
    family = _FAMILIES.get(element.get("objectTypeId", ""), family)
    name = element.get("propertyName")
    return f"{family}.{kind}:{name}" if name else f"{family}.{kind}"


def _identity_key(element: JsonObject) -> EventIdentityKey:
    what_changed = (registration_of(element), element.get("portalId"), element.get("objectId"))
    return (*what_changed, element["occurredAt"], element.get("propertyValue"))


def _count(records: Iterable[JsonObject], outcome: str) -> int:
    return sum(record["outcome"] == outcome for record in records)


def _refusal_rows(scenario: Scenario, records: Iterable[JsonObject]) -> Iterator[ComparisonRow]:
    reported: Counter[str] = Counter()
    for record in records:
        if record["action"] == "requests.refused":
            reported.update(record["detail"]["reasons"])
    expected: Counter[str] = Counter()
    for variant, requests in scenario.refused.items():
        expected[_REASONS[variant]] += requests
    for reason in sorted(reported | expected):
        yield ComparisonRow(f"requests refused: {reason}", reported[reason], expected[reason])


def _outcome_rows(expected_state: ExpectedState, records: Iterable[JsonObject]) -> Iterator[ComparisonRow]:
    """Yield a row for each outcome, compared event by event."""
    outcomes = {
        expected_state.identity(record): record["outcome"] for record in records if record["outcome"] in _TERMINAL
    }
    for outcome in ("processed", "echo", "superseded", "dead"):
        reported = {identity for identity, event_outcome in outcomes.items() if event_outcome == outcome}
        expected = {identity for identity, event_outcome in expected_state.outcomes.items() if event_outcome == outcome}
        yield _set_row(f"events with outcome {outcome}", reported, expected)
    yield ComparisonRow("unexpected events", len(set(outcomes) - set(expected_state.outcomes)), 0)


def _settled_twice(records: Iterable[JsonObject]) -> int:
    final_counts = Counter(
        (record["event_key"], record["handler"] if record["detail"].get("handlers") else "")
        for record in records
        if record["outcome"] in _TERMINAL
    )
    return sum(count > 1 for count in final_counts.values())


def _objects_written(records: Iterable[JsonObject], method: str) -> set[str]:
    written = {record["object_id"] for record in records if _is_write(record, method) and record["detail"]["ok"]}
    return written - {None}  # the object id of an erased contact


def _is_write(record: JsonObject, method: str) -> bool:
    return bool(record["action"] == "crm.write" and record["detail"]["method"] == method)


def _objects_changed(scenario: Scenario, type_id: str) -> set[str]:
    """Return the objects that API calls wrote to."""
    calls = (call for call in scenario.sim.requests if call.type_id == type_id and call.status in {200, 207})
    return {write.object_id for call in calls for write in call.writes}


def _objects_with_creation(records: list[JsonObject], method: str) -> set[str]:
    """Return the objects whose events created a record, even if HubSpot's response was lost."""
    keys = {record["event_key"] for record in records if _is_write(record, method)}
    return {record["object_id"] for record in records if record["event_key"] in keys and record["action"] == "event"}


def _deals_with_one_task(people: People) -> set[str]:
    return {deal for deal in people.won_deals if len(associated_ids(people, ObjectRef(DEAL, deal), "tasks")) == 1}


def _tickets_with_one_note(people: People) -> set[str]:
    bodies = Counter(note.properties.get("hs_note_body") for note in people.records("notes"))
    expected_bodies = {
        ticket: f"Support ticket {ticket} was closed." for ticket in people.closed_tickets & set(people.tickets)
    }
    return {ticket for ticket, body in expected_bodies.items() if bodies[body] == 1}


def associated_ids(people: People, ref: ObjectRef, type_: str) -> list[str]:
    """Return the ids of the records of a type associated with an object."""
    crm = people.sim.crm
    return [object_id for object_id, _ in crm.associations.associations_of(ref, crm.types.resolve(type_))]


def wrong_values(people: People, type_: str, name: str, expected: Mapping[str, str]) -> tuple[int, tuple[str, ...]]:
    """Return the number and the ids of the records whose property differs from the expected value."""
    wrong = tuple(
        record.id for record in people.records(type_) if record.properties.get(name) != expected.get(record.id)
    )
    return len(wrong), wrong


def _set_row(
    name: str, reported: set[str] | set[EventIdentityKey], expected: set[str] | set[EventIdentityKey]
) -> ComparisonRow:
    return ComparisonRow(name, len(reported), len(expected), tuple(sorted(str(item) for item in reported ^ expected)))
