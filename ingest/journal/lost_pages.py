"""`LostPages`: when a page is lost for good, and where the journal goes on behind it.

A page is lost if it could not be read again and again, while the newest page can be. If that one cannot be read either,
something is wrong with all of them, and skipping pages would lose what comes back.
"""

from typing import Final

from ingest.journal.client import JournalClient, PageLocation
from ingest.journal.errors import FILE_BROKEN, FILE_GONE, UnreadableLocation

_TRIES: Final = 10  # each with a new address; with the waits in between, two to four minutes
_OUTAGE_TRIES: Final = 30  # of a server that fails or does not answer: about a quarter of an hour


class LostPages:
    """Counts the failures in a row of the page that is next."""

    def __init__(self, client: JournalClient) -> None:
        self._client = client
        self._failed = ("", "")  # what failed last, of the page of which offset
        self._failures = 0

    async def is_file_lost(self, location: PageLocation, code: str) -> bool:
        """Note that the file of a page could not be read, and why; return whether the page is lost.

        Raises:
            JournalError: HubSpot does not name the newest page.
        """
        failures = self._count("file", location.offset)
        if failures < (_TRIES if code in {FILE_GONE, FILE_BROKEN} else _OUTAGE_TRIES):
            return False
        newest = await self._client.latest()
        return newest is not None and newest.offset != location.offset and await self._client.has_file(newest)

    async def find_behind(self, offset: str, error: UnreadableLocation) -> PageLocation | None:
        """Note that HubSpot's answer does not say where the page behind an offset is; return where the journal goes on.

        None: the page is not lost yet. Otherwise the place is in HubSpot's list of pages, or it is the newest page. If
        the answer has the offset of the page, it is that offset, without the address of a file.

        Raises:
            JournalError: HubSpot does not name the newest page.
        """
        if self._count("location", offset) < _TRIES:
            return None
        newest = await self._client.latest()
        if newest is None or newest.offset in {offset, error.offset}:
            return None
        if error.offset and error.offset != offset:
            return PageLocation(error.offset, "")
        return await self._client.first_listed_after(offset) or newest

    def _count(self, part: str, offset: str) -> int:
        self._failures = self._failures + 1 if self._failed == (part, offset) else 1
        self._failed = (part, offset)
        return self._failures
