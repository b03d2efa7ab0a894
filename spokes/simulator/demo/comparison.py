"""What is true of a demo, set beside what the audit says. Rule: the truth is read off HubSpot's side alone.

What the handlers claim is written down here once more, on purpose: if the project forgot one, the two would differ.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from spokes.simulator.app import Simulator
from spokes.simulator.changes import ObjectRef
from spokes.simulator.crm.object_types import COMPANY, CONTACT, DEAL, TICKET
from spokes.simulator.demo.people import People
from spokes.simulator.demo.scenario import Scenario
from spokes.simulator.errors import JsonObject
from spokes.simulator.webhooks.delivery_log import Attempt

EventIdentityKey: TypeAlias = tuple[object, ...]  # what makes two tellings the same event

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
    """What is looked at: who sent, who worked, and the requests beside the sender's own."""

    sim: Simulator
    people: People
    manual_requests: list[tuple[Attempt, list[JsonObject]]]


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One line of the comparison; `differing` names what the two sides disagree on."""

    name: str
    reported: object
    expected: object
    differing: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether both sides say the same."""
        return self.reported == self.expected and not self.differing


class ExpectedState:
    """Everything that the receiver acknowledged, and how each event of it should have ended."""

    def __init__(self, scenario: DemoDay, registered: frozenset[str] = REGISTERED_TYPES) -> None:
        """Read it off `scenario`, whose handlers claim what `claimed` says."""
        self._scenario = scenario
        requests = list(_acknowledged(scenario))
        elements = [element for request in requests for element in request]
        self.deliveries = len(requests)
        self.received = len(elements)
        events = [element for element in elements if "eventId" in element]
        self.malformed = len(elements) - len(events)
        wanted = [element for element in events if registration_of(element) in registered]
        self.ignored = len(events) - len(wanted)
        self.identities = {element["eventId"]: _identity_key(element) for element in wanted}
        self.outcomes = {_identity_key(element): self._expected_outcome(element) for element in wanted}
        self.duplicates = len(wanted) - len(self.outcomes)

    def _expected_outcome(self, element: JsonObject) -> str:
        people = self._scenario.people
        if element["eventId"] in people.stale_event_ids:
            return "superseded"
        if "propertyName" in element and element.get("changeSource") == "INTEGRATION":
            return "echo"
        return "dead" if str(element.get("objectId")) in people.deleted_contacts else "processed"

    def count_settled(self, records: Iterable[JsonObject]) -> int:
        """Return of how many of these events the audit knows an end."""
        return len(
            self.outcomes.keys() & {self.identity(record) for record in records if record["outcome"] in _TERMINAL}
        )

    def identity(self, record: JsonObject) -> EventIdentityKey:
        """The event that a record of the audit is about."""
        return self.identities.get(record["event_id"], (record["event_id"],))


def compare(scenario: Scenario, records: list[JsonObject], *, chain_intact: bool) -> Iterator[ComparisonRow]:
    """Set the audit's records beside the truth, row by row."""
    truth, people = ExpectedState(scenario), scenario.people
    heads = [record["detail"] for record in records if record["action"] == "delivery.received"]
    yield ComparisonRow("deliveries acknowledged", len(heads), truth.deliveries)
    yield ComparisonRow("events in them", sum(head.get("received", 0) for head in heads), truth.received)
    yield ComparisonRow(
        "ignored: no handler claims them", sum(sum(head.get("ignored", {}).values()) for head in heads), truth.ignored
    )
    yield ComparisonRow("duplicates dropped", _count(records, "duplicate"), truth.duplicates)
    yield ComparisonRow("malformed elements set aside", _count(records, "quarantined"), truth.malformed)
    yield from _refusal_rows(scenario, records)
    yield from _outcome_rows(truth, records)
    yield ComparisonRow("events with more than one end", _settled_twice(records), 0)
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
    """The elements of every genuine request that was answered 2xx."""
    deliveries = scenario.sim.deliveries
    by_serial = {event.serial: event.element for event in deliveries.events}
    for attempt in deliveries.attempts:
        if attempt.acknowledged and attempt.serials:
            yield [element for serial in attempt.serials if isinstance(element := by_serial[serial], dict)]
    yield from (elements for attempt, elements in scenario.manual_requests if attempt.acknowledged and elements)


def registration_of(element: JsonObject) -> str:
    """The claim that would take the element, in either dialect."""
    family, _, kind = element["subscriptionType"].partition(".")
    family = _FAMILIES.get(element.get("objectTypeId", ""), family)
    name = element.get("propertyName")
    return f"{family}.{kind}:{name}" if name else f"{family}.{kind}"


def _identity_key(element: JsonObject) -> EventIdentityKey:
    return (registration_of(element), element.get("objectId"), element["occurredAt"], element.get("propertyValue"))


def _count(records: Iterable[JsonObject], outcome: str) -> int:
    return sum(record["outcome"] == outcome for record in records)


def _refusal_rows(scenario: Scenario, records: Iterable[JsonObject]) -> Iterator[ComparisonRow]:
    says: Counter[str] = Counter()
    for record in records:
        if record["action"] == "requests.refused":
            says.update(record["detail"]["reasons"])
    true: Counter[str] = Counter()
    for manner, requests in scenario.refused.items():
        true[_REASONS[manner]] += requests
    for reason in sorted(says | true):
        yield ComparisonRow(f"requests refused: {reason}", says[reason], true[reason])


def _outcome_rows(truth: ExpectedState, records: Iterable[JsonObject]) -> Iterator[ComparisonRow]:
    """How events ended, outcome by outcome, compared event by event."""
    says = {truth.identity(record): record["outcome"] for record in records if record["outcome"] in _TERMINAL}
    for outcome in ("processed", "echo", "superseded", "dead"):
        said = {identity for identity, end in says.items() if end == outcome}
        meant = {identity for identity, end in truth.outcomes.items() if end == outcome}
        yield _set_row(f"events that ended as {outcome}", said, meant)
    yield ComparisonRow("events with any other end", len(set(says) - set(truth.outcomes)), 0)


def _settled_twice(records: Iterable[JsonObject]) -> int:
    ends = Counter(record["event_key"] for record in records if record["outcome"] in _TERMINAL)
    return sum(count > 1 for count in ends.values())


def _objects_written(records: Iterable[JsonObject], method: str) -> set[str]:
    written = {record["object_id"] for record in records if _is_write(record, method) and record["detail"]["ok"]}
    return written - {None}  # of an erased person


def _is_write(record: JsonObject, method: str) -> bool:
    return bool(record["action"] == "crm.write" and record["detail"]["method"] == method)


def _objects_changed(scenario: Scenario, type_id: str) -> set[str]:
    """Objects that calls of the API wrote to."""
    calls = (call for call in scenario.sim.requests if call.type_id == type_id and call.status in {200, 207})
    return {write.object_id for call in calls for write in call.writes}


def _objects_with_creation(records: list[JsonObject], method: str) -> set[str]:
    """The objects whose events had something made; also where HubSpot's answer got lost on the way."""
    keys = {record["event_key"] for record in records if _is_write(record, method)}
    return {record["object_id"] for record in records if record["event_key"] in keys and record["action"] == "event"}


def _deals_with_one_task(people: People) -> set[str]:
    return {deal for deal in people.won_deals if len(associated_ids(people, ObjectRef(DEAL, deal), "tasks")) == 1}


def _tickets_with_one_note(people: People) -> set[str]:
    bodies = Counter(note.properties.get("hs_note_body") for note in people.records("notes"))
    said = {ticket: f"Support ticket {ticket} was closed." for ticket in people.closed_tickets & set(people.tickets)}
    return {ticket for ticket, body in said.items() if bodies[body] == 1}


def associated_ids(people: People, ref: ObjectRef, type_: str) -> list[str]:
    """The ids of the records of a type that belong to this one."""
    crm = people.sim.crm
    return [object_id for object_id, _ in crm.associations.associations_of(ref, crm.types.resolve(type_))]


def wrong_values(people: People, type_: str, name: str, right: Mapping[str, str]) -> tuple[int, tuple[str, ...]]:
    """How many records do not have the value they should, and which."""
    wrong = tuple(record.id for record in people.records(type_) if record.properties.get(name) != right.get(record.id))
    return len(wrong), wrong


def _set_row(
    what: str, says: set[str] | set[EventIdentityKey], true: set[str] | set[EventIdentityKey]
) -> ComparisonRow:
    name: Callable[[object], str] = str
    return ComparisonRow(what, len(says), len(true), tuple(sorted(map(name, says ^ true))))
