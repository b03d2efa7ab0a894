"""Random merge trees of contacts: pairs, chains, merges of merges. Seeded, with a known expected end state.

The events may be delivered in any order.
"""

from dataclasses import dataclass, field
from random import Random

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.crm.records import CrmRecord


@dataclass(slots=True)
class MergeTrees:
    """Contacts with a phone number as users type it; `phones` maps surviving ids to the expected E.164 number."""

    sim: Simulator
    rng: Random
    phones: dict[str, str] = field(default_factory=dict)
    merge_count: int = 0

    def grow(self, steps: int) -> None:
        """Apply `steps` random edits, about a third of them merges.

        No contact is edited twice: two edits within one millisecond would have no known order.
        """
        edited: set[str] = set()
        for _ in range(steps):
            live = len(self.phones)
            if live < 2 or self.rng.random() < 1 / 3:  # noqa: PLR2004 - a merge takes two
                self._create()
            elif self.rng.random() < 1 / 2:
                self._merge()
            else:
                self._edit(edited)

    def wrong_contacts(self) -> list[str]:
        """Return the ids of contacts whose number is not the expected one."""
        return [id_ for id_, phone in self.phones.items() if self._record(id_).properties["phone"] != phone]

    def _create(self) -> None:
        typed, phone = self._phone()
        record = self.sim.crm.create(self.sim.crm.types.resolve("contacts"), {"phone": typed}, USER)
        self.phones[record.id] = phone

    def _edit(self, edited: set[str]) -> None:
        typed, phone = self._phone()
        id_ = self.rng.choice(sorted(self.phones))
        if id_ in edited:
            return
        edited.add(id_)
        self.sim.crm.update(self._record(id_), {"phone": typed}, USER)
        self.phones[id_] = phone

    def _merge(self) -> None:
        primary, other = self.rng.sample(sorted(self.phones), 2)
        survivor = self.sim.crm.merge(self._record(primary), self._record(other), USER)
        self.phones[survivor.id] = self.phones.pop(primary)
        del self.phones[other]
        self.merge_count += 1

    def _record(self, id_: str) -> CrmRecord:
        return self.sim.crm.get(self.sim.crm.types.resolve("contacts"), id_)

    def _phone(self) -> tuple[str, str]:
        number = f"415{self.rng.randint(2_000_000, 9_999_999)}"
        return f"({number[:3]}) {number[3:6]}-{number[6:]}", f"+1{number}"
