"""`JournalClient`: the calls of HubSpot's journal, one attempt each, and the files of its pages as streams.

Source: HubSpot's API specification "Webhooks Journal", and its docs of the same name.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from ingest.journal.app_token import CachedAppToken
from ingest.journal.call_limit import READS_PER_S, CallLimit
from ingest.journal.errors import (
    FILE_BROKEN,
    FILE_GONE,
    JournalRefused,
    JournalUnavailable,
    OffsetUnknown,
    UnreadableLocation,
)
from spokes.core.json_reading.json_fields import read_scalar_text, read_text
from spokes.core.settings import Settings
from spokes.crm.transport.errors.error_mapping import parse_retry_after

_CHUNK_BYTES: Final = 128 * 1024
_MAX_LOCATION_BYTES: Final = 256 * 1024
_MAX_OFFSET_LENGTH: Final = 1000
_BATCH: Final = 100  # HubSpot's most
_LIST_TRIES: Final = 3  # of a list from which HubSpot leaves pages out
_FILE_TIMEOUT: Final = aiohttp.ClientTimeout(total=600, sock_connect=20, sock_read=60)
_MAX_REDIRECTS: Final = 3  # of the store of the files
_GONE: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.BAD_REQUEST})


@dataclass(frozen=True, slots=True)
class PageLocation:
    """A page of the journal: its offset, and the address of its file, which expires.

    `asked_for` is the offset behind which HubSpot named the page, empty if it was found from an end of the journal.
    """

    offset: str
    url: str
    asked_for: str = ""


class JournalClient:
    """Calls the journal of one app; `close` ends its connections."""

    def __init__(self, settings: Settings) -> None:
        timeout = aiohttp.ClientTimeout(total=settings.hubspot_timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        self._token = CachedAppToken(settings)
        self._root = f"{settings.hubspot_api_url.rstrip('/')}/webhooks-journal/journal/{settings.hubspot_api_version}"
        self._allows_http = settings.hubspot_api_url.startswith("http://")
        self._limit = CallLimit(READS_PER_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
        await self._token.close()

    async def earliest(self) -> PageLocation | None:
        """Return the oldest page that is kept, None if there is none; see `next_after`."""
        try:
            return await self._read("/earliest")
        except OffsetUnknown:
            return None

    async def latest(self) -> PageLocation | None:
        """Return the newest page, None if there is none.

        Raises:
            JournalRefused, JournalUnavailable: HubSpot gives no page; never UnreadableLocation.
        """
        try:
            return await self._read("/latest")
        except OffsetUnknown:
            return None
        except UnreadableLocation as error:
            raise JournalUnavailable(error.code) from None

    async def pages_after(self, offset: str) -> list[PageLocation]:
        """Return the pages behind an offset, or with the empty text the earliest ones; none if its list is incomplete.

        Raises:
            JournalRefused, JournalUnavailable: HubSpot does not answer as it should.
        """
        for _ in range(_LIST_TRIES):
            with suppress(UnreadableLocation):
                try:
                    results, is_complete = await self._list(offset)
                except OffsetUnknown:
                    break
                if is_complete:
                    return [self._location(each, offset) for each in results]
        return []

    async def first_listed_after(self, offset: str) -> PageLocation | None:
        """Return the first page behind an offset whose address HubSpot's list has, None without one.

        Raises:
            JournalRefused, JournalUnavailable: HubSpot does not answer.
        """
        with suppress(OffsetUnknown, UnreadableLocation):
            for each in (await self._list(offset))[0]:
                with suppress(UnreadableLocation):
                    return self._location(each, offset)
        return None

    async def _list(self, offset: str) -> tuple[list[Mapping[str, object]], bool]:
        """Return HubSpot's list of the pages behind an offset, and whether it is complete."""
        start = f"{quote(offset, safe='')}/next" if offset else "earliest"
        fields = _fields(await self._read_body(f"/batch/{start}/{_BATCH}") or b"{}")
        results = fields.get("results")
        if not isinstance(results, list):
            return [], False
        return [each for each in results if isinstance(each, dict)], not fields.get("errors")

    async def next_after(self, offset: str) -> PageLocation | None:
        """Return the page behind an offset, None if there is none yet.

        Raises:
            OffsetUnknown: HubSpot says so; perhaps only because there is nothing behind it.
            UnreadableLocation: its answer does not say where the page is.
            JournalRefused, JournalUnavailable: HubSpot gives no page.
        """
        return await self._read(f"/offset/{quote(offset, safe='')}/next", offset)

    async def file(self, location: PageLocation) -> AsyncGenerator[bytes, None]:
        """Yield the file of a page in chunks; the request carries no token.

        Raises:
            JournalUnavailable: the address has expired (FILE_GONE), the file is not complete or not encoded as it says
                (FILE_BROKEN), or its server does not answer.
        """
        try:
            async with self._session.get(
                URL(location.url, encoded=True), timeout=_FILE_TIMEOUT, max_redirects=_MAX_REDIRECTS
            ) as response:
                if response.status in _GONE:
                    raise JournalUnavailable(FILE_GONE)  # another read of the page gives a new address
                if response.status != HTTPStatus.OK:
                    raise _unavailable(response)
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    yield chunk
        except aiohttp.ClientPayloadError:
            raise JournalUnavailable(FILE_BROKEN) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            raise JournalUnavailable("file_connection") from None

    async def has_file(self, location: PageLocation) -> bool:
        """Return whether the file of a page can be fetched now; only its beginning is fetched."""
        try:
            async with aclosing(self.file(location)) as chunks:
                await anext(chunks, b"")
        except JournalUnavailable:
            return False
        return True

    async def _read(self, path: str, offset: str = "") -> PageLocation | None:
        body = await self._read_body(path)
        return None if body is None else self._location(_fields(body), offset)

    async def _read_body(self, path: str) -> bytes | None:
        """Return the JSON of an answer, None if it has no content."""
        status, body, error = await self._get(path)
        if status == HTTPStatus.UNAUTHORIZED:
            self._token.discard()
            status, body, error = await self._get(path)
        if status == HTTPStatus.NO_CONTENT or (status == HTTPStatus.OK and not body.strip()):
            return None
        if status in {HTTPStatus.OK, HTTPStatus.MULTI_STATUS}:
            return body
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            self._token.discard()
            raise JournalRefused(str(status))
        is_about_offset = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        if is_about_offset and status not in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}:
            raise OffsetUnknown(str(status))
        raise error

    async def _get(self, path: str) -> tuple[int, bytes, JournalUnavailable]:
        headers = {"Authorization": f"Bearer {await self._token.get()}", "Accept": "application/json"}
        await self._limit.wait()
        try:
            async with self._session.get(self._root + path, headers=headers, allow_redirects=False) as response:
                body = await response.content.read(_MAX_LOCATION_BYTES)
                while len(body) < _MAX_LOCATION_BYTES and (more := await response.content.read(_MAX_LOCATION_BYTES)):
                    body += more
                return response.status, body, _unavailable(response)
        except aiohttp.ClientPayloadError:  # not encoded as it says, or it ends early
            raise UnreadableLocation from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            raise JournalUnavailable("connection") from None

    def _location(self, fields: Mapping[str, object], asked_for: str) -> PageLocation:
        offset, url = read_scalar_text(fields.get("currentOffset")), read_text(fields.get("url"))
        is_allowed = url is not None and url.startswith(("https://", "http://") if self._allows_http else "https://")
        if not offset or len(offset) > _MAX_OFFSET_LENGTH:
            raise UnreadableLocation
        if url is None or not is_allowed:
            raise UnreadableLocation(offset)
        return PageLocation(offset, url, asked_for)


def _fields(body: bytes) -> dict[str, object]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnreadableLocation from None
    return fields if isinstance(fields, dict) else {}


def _unavailable(response: aiohttp.ClientResponse) -> JournalUnavailable:
    wait_s = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)) or 0.0
    return JournalUnavailable(str(response.status), retry_after_s=wait_s)
