"""The pages of the journal: entries are collected, published, kept for three days, and served at expiring addresses."""

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import NamedTuple
from uuid import UUID

import orjson

from spokes.simulator.clock import Clock
from spokes.simulator.config import JournalConfig
from spokes.simulator.crm.records import iso
from spokes.simulator.errors import JsonObject
from spokes.simulator.journal.entries import joined


@dataclass(slots=True)
class JournalPage:
    """One published page: its offset, its number in the order of publication, and its entries."""

    offset: str
    number: int
    published_at_ms: int
    expires_s: float  # in HubSpot's time
    entries: tuple[JsonObject, ...]

    def content(self, portal_id: int | None) -> bytes:
        """Return the file of the page, or of the entries of one portal."""
        entries = [entry for entry in self.entries if portal_id in {None, entry.get("portalId")}]
        body = {"offset": self.offset, "journalEvents": entries, "publishedAt": iso(self.published_at_ms)}
        return orjson.dumps(body)


class FileAddress(NamedTuple):
    """What an address leads to: a page, the portal whose entries it shows (None: all), and when it expires."""

    page: JournalPage
    portal_id: int | None
    expires_s: float


class JournalStore:
    """The journal of the app."""

    def __init__(self, config: JournalConfig, clock: Clock, rng: Random) -> None:
        self.config = config
        self._clock = clock
        self._rng = rng
        self._collected: list[JsonObject] = []
        self._collected_bytes = 0
        self._collected_since_s = 0.0
        self._pages: deque[JournalPage] = deque()
        self._by_offset: dict[str, JournalPage] = {}
        self._next_number = 0
        self._addresses: dict[str, FileAddress] = {}
        self.lost_files: set[str] = set()  # offsets of pages that are listed, and whose files are never served

    def add(self, entry: JsonObject) -> None:
        """Add an entry; properties that one update changed share an entry."""
        if self._collected and joined(self._collected[-1], entry):
            return
        size = len(orjson.dumps(entry))
        if (self.config.linger_s and self._is_due()) or self._collected_bytes + size > self.config.max_bytes:
            self.publish()
        if not self._collected:
            self._collected_since_s = self._clock.hubspot_s()
        self._collected.append(entry)
        self._collected_bytes += size
        if len(self._collected) >= self.config.max_entries:
            self.publish()

    def publish(self) -> None:
        """Publish the collected entries as a page now."""
        if not self._collected:
            return
        expires_s = self._clock.hubspot_s() + self.config.kept_s
        offset = str(UUID(int=self._rng.getrandbits(128), version=4))
        page = JournalPage(offset, self._next_number, self._clock.now_ms(), expires_s, tuple(self._collected))
        self._collected, self._collected_bytes = [], 0
        self._next_number += 1
        self._pages.append(page)
        self._by_offset[offset] = page

    def pages(self, portal_id: int | None = None) -> list[JournalPage]:
        """Return the pages that are kept, or those with entries of one portal; the oldest first."""
        if self._is_due():
            self.publish()
        while self._pages and self._pages[0].expires_s <= self._clock.hubspot_s():
            del self._by_offset[self._pages.popleft().offset]
        if portal_id is None:
            return [*self._pages]
        return [page for page in self._pages if any(entry.get("portalId") == portal_id for entry in page.entries)]

    def find(self, offset: str) -> JournalPage | None:
        """Return the page with this offset, if it is still kept."""
        self.pages()
        return self._by_offset.get(offset)

    def forget(self, offset: str | None = None) -> int:
        """Remove the pages up to that with an offset, by default all, as if they had aged out; return how many."""
        page = self._by_offset.get(offset or "")
        count = 0
        while self._pages and (page is None or self._pages[0].number <= page.number):
            del self._by_offset[self._pages.popleft().offset]
            count += 1
        return count

    def address(self, page: JournalPage, portal_id: int | None) -> tuple[str, float]:
        """Return the name of a new address of a page's file, and the seconds until it expires."""
        life_s, now_s = self.config.url_s, self._clock.hubspot_s()
        name = f"{self._rng.getrandbits(160):040x}"
        self._addresses = {key: known for key, known in self._addresses.items() if known.expires_s > now_s}
        self._addresses[name] = FileAddress(page, portal_id, now_s + life_s)
        return name, life_s / self._clock.speed

    def file(self, name: str) -> bytes | None:
        """Return the file at an address; None if it is unknown or has expired."""
        address = self._addresses.get(name)
        if address is None or self._clock.hubspot_s() >= address.expires_s:
            return None
        if address.page.offset in self.lost_files:
            return None
        return address.page.content(address.portal_id)

    def _is_due(self) -> bool:
        """Return whether the collected entries have waited long enough to be published."""
        return bool(self._collected) and self._clock.hubspot_s() - self._collected_since_s >= self.config.linger_s

    def clear(self) -> None:
        """Remove every entry and page."""
        self._collected, self._collected_bytes = [], 0
        self._pages.clear()
        self._by_offset.clear()
        self._addresses.clear()
        self.lost_files.clear()
