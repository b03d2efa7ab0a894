"""Random, lifelike edits by the users of a portal. Seeded.

All names are invented; e-mail addresses end in .example, and phone numbers are from ranges reserved for fiction.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

from spokes.simulator.changes import USER
from spokes.simulator.clock import Clock
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.portal import Portal

_FIRST: Final = ("Ada", "Bilal", "Chioma", "Dmitri", "Elif", "Freja", "Gil", "Hana", "Ines", "Jonas", "Keiko", "Liam")
_LAST: Final = ("Abara", "Berg", "Costa", "Dahl", "Eriksen", "Fontaine", "Grau", "Haddad", "Ito", "Jansen", "Kaya")
_TRADES: Final = ("Bakery", "Freight", "Optics", "Robotics", "Textiles", "Winery")
_STAGES: Final = ("lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer")
_DEAL_STAGES: Final = ("appointmentscheduled", "qualifiedtobuy", "contractsent", "closedwon", "closedlost")
_PHONES: Final = ("(212) 555-01{:02d}", "+1 415 555 01{:02d}", "020 7946 09{:02d}", "+44 (0)20 7946 08{:02d}", "n/a")
_MAX_REMEMBERED: Final = 500  # newest records of a type that later edits choose from
_TICK_S: Final = 0.05


class Traffic:
    """Random edits in one portal."""

    def __init__(self, portal: Portal, rng: Random) -> None:
        self._portal = portal
        self._rng = rng
        self._contacts: list[CrmRecord] = []
        self._companies: list[CrmRecord] = []
        self._deals: list[CrmRecord] = []
        self._created_count = 0

    def make_edit(self) -> None:
        """Make one edit: most change an existing record, some create one."""
        edits: dict[Callable[[], None], int] = {
            self._new_contact: 20,
            self._new_company: 5,
            self._new_deal: 5,
            self._change_contact: 45,
            self._change_deal: 15,
            self._associate: 7,
            self._delete_contact: 2,
            self._merge_contacts: 1,
        }
        (edit,) = self._rng.choices(list(edits), list(edits.values()))
        edit()

    async def run(self, events_per_s: float, sent: Callable[[], int], clock: Clock) -> None:
        """Make edits until cancelled, so that the number of events that `sent` returns grows at that rate."""
        started_s, sent_before = clock.monotonic_s(), sent()
        while True:
            due = (clock.monotonic_s() - started_s) * events_per_s
            edits = 0
            # An edit without a subscription causes no event; the bound on edits ends the loop then.
            while sent() - sent_before < due and edits < max(1.0, events_per_s):
                self.make_edit()
                edits += 1
            await asyncio.sleep(_TICK_S)

    def _new_contact(self) -> None:
        first, last = self._rng.choice(_FIRST), self._rng.choice(_LAST)
        self._created_count += 1
        email = f"{first}.{last}.{self._created_count}@mail.example".lower()
        values = {"firstname": first, "lastname": last, "email": email, "phone": self._phone(), "country": "US"}
        self._remember(self._contacts, self._create("contacts", values))

    def _new_company(self) -> None:
        self._created_count += 1
        name = f"{self._rng.choice(_LAST)} {self._rng.choice(_TRADES)}"
        domain = f"{name.replace(' ', '-').lower()}-{self._created_count}.example"
        self._remember(self._companies, self._create("companies", {"name": name, "domain": domain}))

    def _new_deal(self) -> None:
        amount = str(self._rng.randrange(500, 50_000, 250))
        values = {"dealname": f"Order of {amount}", "amount": amount, "dealstage": _DEAL_STAGES[0]}
        self._remember(self._deals, self._create("deals", values))

    def _change_contact(self) -> None:
        contact = self._pick(self._contacts)
        if contact is None:
            return self._new_contact()
        name, value = self._rng.choice((("phone", self._phone()), ("lifecyclestage", self._rng.choice(_STAGES))))
        self._portal.crm.update(contact, {name: value}, USER)
        return None

    def _change_deal(self) -> None:
        deal = self._pick(self._deals)
        if deal is None:
            return self._new_deal()
        self._portal.crm.update(deal, {"dealstage": self._rng.choice(_DEAL_STAGES)}, USER)
        return None

    def _associate(self) -> None:
        contact, company = self._pick(self._contacts), self._pick(self._companies)
        if contact is None or company is None:
            return self._new_company()
        crm = self._portal.crm
        unlabelled = crm.associations.types.unlabelled(contact.type.type_id, company.type.type_id)
        crm.associations.add(contact.ref, company.ref, [unlabelled], USER)
        return None

    def _delete_contact(self) -> None:
        contact = self._pick(self._contacts)
        if contact is not None:
            self._portal.crm.archive(contact, USER)

    def _merge_contacts(self) -> None:
        primary, other = self._pick(self._contacts), self._pick(self._contacts)
        if primary is not None and other is not None and primary is not other:
            self._remember(self._contacts, self._portal.crm.merge(primary, other, USER))

    def _create(self, type_name: str, values: dict[str, str]) -> CrmRecord:
        return self._portal.crm.create(self._portal.crm.types.resolve(type_name), values, USER)

    def _remember(self, records: list[CrmRecord], record: CrmRecord) -> None:
        records.append(record)
        del records[:-_MAX_REMEMBERED]

    def _pick(self, records: list[CrmRecord]) -> CrmRecord | None:
        """Return a random live record; the app under test deletes and merges records too."""
        while records:
            index = self._rng.randrange(len(records))
            record = records[index]
            if self._portal.crm.find(record.type, record.id, merged=False) is record:
                return record
            del records[index]
        return None

    def _phone(self) -> str:
        return self._rng.choice(_PHONES).format(self._rng.randrange(100))
