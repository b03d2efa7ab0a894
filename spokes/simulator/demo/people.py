"""Edits by the users of the demo's portal, and the state their CRM should reach. Seeded.

Phones and domains are entered in known non-canonical forms, so the expected value does not depend on the tested code.
"""

from dataclasses import dataclass, field
from random import Random

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, AssociationSpec, Change, ChangeKind
from spokes.simulator.crm.association_types import HUBSPOT_DEFINED
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.errors import JsonObject

_TICKET_TO_CONTACT = AssociationSpec(HUBSPOT_DEFINED, 16)
_WON_SHARE = 0.15  # share of deals


@dataclass(slots=True)
class People:
    """The users of one portal, and the expected end state of their CRM."""

    sim: Simulator
    rng: Random
    phones: dict[str, str] = field(default_factory=dict)  # contact id -> its phone in E.164
    domains: dict[str, str] = field(default_factory=dict)  # company id -> its bare domain
    won_deals: set[str] = field(default_factory=set)  # deals
    tickets: dict[str, str] = field(default_factory=dict)  # ticket id -> its contact
    closed_tickets: set[str] = field(default_factory=set)  # tickets
    deleted_contacts: set[str] = field(default_factory=set)  # contacts deleted before their events were delivered
    erased_contacts: set[str] = field(default_factory=set)  # contacts; the audit no longer has their ids
    stale_event_ids: set[int] = field(default_factory=set)  # events older than the newest change of the property

    def new_contact(self) -> None:
        """Create a contact with a phone as users type it."""
        number = self.rng.randint(2_000_000, 9_999_999)
        phone, expected = phone_as_typed(self.rng, number)
        record = self._create("contacts", {"email": f"person.{number}.{len(self.phones)}@example.com", "phone": phone})
        self.phones[record.id] = expected

    def new_deleted_contact(self) -> None:
        """Create a contact and delete it at once, so that its handler finds no record."""
        record = self._create("contacts", {"phone": "(415) 555-2671"})
        self.sim.crm.archive(record, USER)
        self.deleted_contacts.add(record.id)

    def new_phone(self, contact: CrmRecord) -> None:
        """Change a phone."""
        phone, expected = phone_as_typed(self.rng, self.rng.randint(2_000_000, 9_999_999))
        self.sim.crm.update(contact, {"phone": phone}, USER)
        self.phones[contact.id] = expected

    def stale_change(self, contact: CrmRecord) -> None:
        """Send an event of a change older than the contact's last, without changing the record."""
        at_ms = contact.created_at_ms - 5000
        change = Change(ChangeKind.PROPERTY_CHANGE, contact.ref, USER, at_ms, "phone", "1 415 2000000")
        elements = self.sim.subscriptions.build_elements(change)
        self.stale_event_ids |= {element["eventId"] for element in elements}
        self.sim.sender.submit(self.sim.portal.config.portal_id, elements)

    def new_company(self) -> None:
        """Create a company with its domain as users paste it."""
        name = f"acme-{len(self.domains)}.example.com"
        entered = self.rng.choice((f"https://www.{name}/about", f"WWW.{name.upper()}", f"http://{name}/", name))
        self.domains[self._create("companies", {"name": "Acme", "domain": entered}).id] = name

    def new_deal(self) -> None:
        """Create a deal; some are won already."""
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
            associations.add(ticket.ref, contact.ref, [label], USER)
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
        """Erase a contact, as a privacy deletion does."""
        self.sim.crm.erase(contact, USER)
        del self.phones[contact.id]
        self.erased_contacts.add(contact.id)

    def random_edit(self) -> None:
        """Make an edit for which no handler is registered."""
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

    def _create(self, type_: str, properties: JsonObject) -> CrmRecord:
        return self.sim.crm.create(self.sim.crm.types.resolve(type_), properties, USER)


def phone_as_typed(rng: Random, number: int) -> tuple[str, str]:
    """Return a phone as users type it, and in E.164: San Francisco numbers, valid with any last seven digits."""
    text = f"{number}"
    styles = (f"(415) {text[:3]}-{text[3:]}", f"415.{text[:3]}.{text[3:]}", f"1 415 {text}", f"+1 (415) {text}")
    return rng.choice(styles), f"+1415{text}"
