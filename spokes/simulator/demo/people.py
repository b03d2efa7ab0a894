"""What people do in the demo, edit by edit, and what should come of it. Rule: chance comes from the seed alone.

Phones and domains are made messy in known ways, so that their right form is known without asking the code under test.
"""

from dataclasses import dataclass, field
from random import Random

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, AssociationSpec, Change, ChangeKind, ObjectRef
from spokes.simulator.crm.association_types import HUBSPOT_DEFINED
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.errors import JsonObject

_TICKET_TO_CONTACT = AssociationSpec(HUBSPOT_DEFINED, 16)
_WON_SHARE = 0.15  # share of deals


@dataclass(slots=True)
class People:
    """The people of one portal, and the state in which their CRM should end."""

    sim: Simulator
    rng: Random
    phones: dict[str, str] = field(default_factory=dict)  # contact id -> its phone in E.164
    domains: dict[str, str] = field(default_factory=dict)  # company id -> its bare domain
    won_deals: set[str] = field(default_factory=set)  # deals
    tickets: dict[str, str] = field(default_factory=dict)  # ticket id -> its contact
    closed_tickets: set[str] = field(default_factory=set)  # tickets
    deleted_contacts: set[str] = field(
        default_factory=set
    )  # contacts that were deleted before anybody was told of them
    erased_contacts: set[str] = field(default_factory=set)  # contacts; the audit no longer names them
    stale_event_ids: set[int] = field(default_factory=set)  # ids of events that are older than what was applied

    def new_contact(self) -> None:
        """Enter a contact with a phone as people type it."""
        number = self.rng.randint(2_000_000, 9_999_999)
        phone, right = self._phone(number)
        record = self._create("contacts", {"email": f"person.{number}.{len(self.phones)}@example.com", "phone": phone})
        self.phones[record.id] = right

    def new_deleted_contact(self) -> None:
        """Enter a contact and delete it at once: whoever is told of it finds nothing."""
        record = self._create("contacts", {"phone": "(415) 555-2671"})
        self.sim.crm.archive(record, USER)
        self.deleted_contacts.add(record.id)

    def new_phone(self, contact: CrmRecord) -> None:
        """Change a phone."""
        phone, right = self._phone(self.rng.randint(2_000_000, 9_999_999))
        self.sim.crm.update(contact, {"phone": phone}, USER)
        self.phones[contact.id] = right

    def stale_change(self, contact: CrmRecord) -> None:
        """Have a change told that is older than the contact's last; nothing changes now."""
        at_ms = contact.created_at_ms - 5000
        change = Change(ChangeKind.PROPERTY_CHANGE, _ref(contact), USER, at_ms, "phone", "1 415 2000000")
        elements = self.sim.subscriptions.build_elements(change)
        self.stale_event_ids |= {element["eventId"] for element in elements}
        self.sim.sender.submit(self.sim.portal.config.portal_id, elements)

    def new_company(self) -> None:
        """Enter a company with its domain as people paste it."""
        name = f"acme-{len(self.domains)}.example.com"
        messy = self.rng.choice((f"https://www.{name}/about", f"WWW.{name.upper()}", f"http://{name}/", name))
        self.domains[self._create("companies", {"name": "Acme", "domain": messy}).id] = name

    def new_deal(self) -> None:
        """Enter a deal; some are won by then."""
        won = self.rng.random() < _WON_SHARE
        record = self._create("deals", {"dealname": "A deal", "dealstage": "closedwon" if won else "qualifiedtobuy"})
        if won:
            self.won_deals.add(record.id)

    def win(self, deal: CrmRecord) -> None:
        """Win a deal."""
        self.sim.crm.update(deal, {"dealstage": "closedwon"}, USER)
        self.won_deals.add(deal.id)

    def new_ticket(self) -> None:
        """Open a ticket for a contact."""
        ticket = self._create("tickets", {"subject": "Help", "hs_pipeline_stage": "1"})
        if contacts := self.records("contacts"):
            contact = self.rng.choice(contacts)
            associations = self.sim.crm.associations
            label = associations.types.find(_TICKET_TO_CONTACT, ticket.type, contact.type)
            associations.add(_ref(ticket), _ref(contact), [label], USER)
            self.tickets[ticket.id] = contact.id

    def close(self, ticket: CrmRecord) -> None:
        """Close a ticket."""
        self.sim.crm.update(ticket, {"hs_pipeline_stage": "4"}, USER)
        self.closed_tickets.add(ticket.id)

    def merge(self, primary: CrmRecord, other: CrmRecord) -> None:
        """Merge two contacts; the survivor has a new id."""
        survivor = self.sim.crm.merge(primary, other, USER)
        self.phones[survivor.id] = self.phones.pop(primary.id)
        del self.phones[other.id]

    def erase(self, contact: CrmRecord) -> None:
        """Erase a person."""
        self.sim.crm.erase(contact, USER)
        del self.phones[contact.id]
        self.erased_contacts.add(contact.id)

    def random_edit(self) -> None:
        """Do something that no handler asks for."""
        match self.rng.randint(0, 3):
            case 0:
                self._create("starships", {"name": "Rocinante"})
            case 1:
                self._create("line_items", {"name": "Screws", "quantity": "12"})
            case 2:
                self.sim.portal.conversations.add_message(self.sim.portal.conversations.start())
            case _:
                for contact in self.records("contacts")[:1]:
                    self.sim.crm.update(contact, {"city": f"City {self.rng.random()}"}, USER)

    def records(self, type_: str) -> list[CrmRecord]:
        """Return the live records of a type, oldest first."""
        return sorted(self.sim.crm.records(self.sim.crm.types.resolve(type_)), key=lambda record: int(record.id))

    def _phone(self, number: int) -> tuple[str, str]:
        """A phone as people type it, and as it should be: San Francisco numbers, valid whatever their last seven."""
        text = f"{number}"
        styles = (f"(415) {text[:3]}-{text[3:]}", f"415.{text[:3]}.{text[3:]}", f"1 415 {text}", f"+1 (415) {text}")
        return self.rng.choice(styles), f"+1415{text}"

    def _create(self, type_: str, properties: JsonObject) -> CrmRecord:
        return self.sim.crm.create(self.sim.crm.types.resolve(type_), properties, USER)


def _ref(record: CrmRecord) -> ObjectRef:
    return ObjectRef(record.type.type_id, record.id)
