"""What people do in the demo, edit by edit, and what should come of it. Rule: chance comes from the seed alone.

Phones and domains are made messy in known ways, so that their right form is known without asking the code under test.
"""

from dataclasses import dataclass, field
from random import Random

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, AssociationSpec, Change, Kind, ObjectRef
from spokes.simulator.crm.association_types import HUBSPOT_DEFINED
from spokes.simulator.crm.records import Record
from spokes.simulator.errors import JsonObject

_TICKET_TO_CONTACT = AssociationSpec(HUBSPOT_DEFINED, 16)
_WON_AT_ONCE = 0.15  # share of deals


@dataclass(slots=True)
class People:
    """The people of one portal, and the state in which their CRM should end."""

    sim: Simulator
    rng: Random
    phones: dict[str, str] = field(default_factory=dict)  # contact id -> its phone in E.164
    domains: dict[str, str] = field(default_factory=dict)  # company id -> its bare domain
    won: set[str] = field(default_factory=set)  # deals
    tickets: dict[str, str] = field(default_factory=dict)  # ticket id -> its contact
    closed: set[str] = field(default_factory=set)  # tickets
    gone: set[str] = field(default_factory=set)  # contacts that were deleted before anybody was told of them
    erased: set[str] = field(default_factory=set)  # contacts; the audit no longer names them
    late: set[int] = field(default_factory=set)  # ids of events that are older than what was applied

    def new_contact(self) -> None:
        """Enter a contact with a phone as people type it."""
        number = self.rng.randint(2_000_000, 9_999_999)
        phone, right = self._phone(number)
        record = self._create("contacts", {"email": f"person.{number}.{len(self.phones)}@example.com", "phone": phone})
        self.phones[record.id] = right

    def new_contact_that_is_gone(self) -> None:
        """Enter a contact and delete it at once: whoever is told of it finds nothing."""
        record = self._create("contacts", {"phone": "(415) 555-2671"})
        self.sim.crm.archive(record, USER)
        self.gone.add(record.id)

    def new_phone(self, contact: Record) -> None:
        """Change a phone."""
        phone, right = self._phone(self.rng.randint(2_000_000, 9_999_999))
        self.sim.crm.update(contact, {"phone": phone}, USER)
        self.phones[contact.id] = right

    def old_news(self, contact: Record) -> None:
        """Have a change told that is older than the contact's last; nothing changes now."""
        at_ms = contact.created_at_ms - 5000
        change = Change(Kind.PROPERTY_CHANGE, _ref(contact), USER, at_ms, "phone", "1 415 2000000")
        elements = self.sim.subscriptions.elements(change)
        self.late |= {element["eventId"] for element in elements}
        self.sim.sender.submit(self.sim.portal.config.portal_id, elements)

    def new_company(self) -> None:
        """Enter a company with its domain as people paste it."""
        name = f"acme-{len(self.domains)}.example.com"
        messy = self.rng.choice((f"https://www.{name}/about", f"WWW.{name.upper()}", f"http://{name}/", name))
        self.domains[self._create("companies", {"name": "Acme", "domain": messy}).id] = name

    def new_deal(self) -> None:
        """Enter a deal; some are won by then."""
        won = self.rng.random() < _WON_AT_ONCE
        record = self._create("deals", {"dealname": "A deal", "dealstage": "closedwon" if won else "qualifiedtobuy"})
        if won:
            self.won.add(record.id)

    def win(self, deal: Record) -> None:
        """Win a deal."""
        self.sim.crm.update(deal, {"dealstage": "closedwon"}, USER)
        self.won.add(deal.id)

    def new_ticket(self) -> None:
        """Open a ticket for a contact."""
        ticket = self._create("tickets", {"subject": "Help", "hs_pipeline_stage": "1"})
        if contacts := self.records("contacts"):
            contact = self.rng.choice(contacts)
            associations = self.sim.crm.associations
            label = associations.types.find(_TICKET_TO_CONTACT, ticket.type, contact.type)
            associations.add(_ref(ticket), _ref(contact), [label], USER)
            self.tickets[ticket.id] = contact.id

    def close(self, ticket: Record) -> None:
        """Close a ticket."""
        self.sim.crm.update(ticket, {"hs_pipeline_stage": "4"}, USER)
        self.closed.add(ticket.id)

    def merge(self, primary: Record, other: Record) -> None:
        """Merge two contacts; the survivor has a new id."""
        survivor = self.sim.crm.merge(primary, other, USER)
        self.phones[survivor.id] = self.phones.pop(primary.id)
        del self.phones[other.id]

    def erase(self, contact: Record) -> None:
        """Erase a person."""
        self.sim.crm.forget(contact, USER)
        del self.phones[contact.id]
        self.erased.add(contact.id)

    def something_else(self) -> None:
        """Do something that no handler asks for."""
        match self.rng.randint(0, 3):
            case 0:
                self._create("starships", {"name": "Rocinante"})
            case 1:
                self._create("line_items", {"name": "Screws", "quantity": "12"})
            case 2:
                self.sim.portal.conversations.message(self.sim.portal.conversations.start())
            case _:
                for contact in self.records("contacts")[:1]:
                    self.sim.crm.update(contact, {"city": f"City {self.rng.random()}"}, USER)

    def records(self, type_: str) -> list[Record]:
        """Return the live records of a type, oldest first."""
        return sorted(self.sim.crm.records(self.sim.crm.types.resolve(type_)), key=lambda record: int(record.id))

    def _phone(self, number: int) -> tuple[str, str]:
        """A phone as people type it, and as it should be: San Francisco numbers, valid whatever their last seven."""
        text = f"{number}"
        styles = (f"(415) {text[:3]}-{text[3:]}", f"415.{text[:3]}.{text[3:]}", f"1 415 {text}", f"+1 (415) {text}")
        return self.rng.choice(styles), f"+1415{text}"

    def _create(self, type_: str, properties: JsonObject) -> Record:
        return self.sim.crm.create(self.sim.crm.types.resolve(type_), properties, USER)


def _ref(record: Record) -> ObjectRef:
    return ObjectRef(record.type.type_id, record.id)
