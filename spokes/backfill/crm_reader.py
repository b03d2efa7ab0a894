"""The calls of a backfill: searches for changed records, reads with history, pages of the recycle bin.

All are calls of the import class, so interactive work comes first. A transient failure is waited out, of a call or of
one record in it; only when HubSpot fails for long does the backfill stop, and continues later from its checkpoint. A
response without results is a failure, not the end of the records.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog

from spokes.backfill.checkpoint import Counts
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.record_events import MERGED_CONTACTS, MERGED_IDS
from spokes.backfill.window_walk import PAGE_SIZE, Query, ResultPage, Window
from spokes.core.errors import CRMUnavailable, NotAuthorized, ObjectNotFound, TransientCRMError
from spokes.core.json_reading.json_fields import read_integer
from spokes.crm.batching.association_reads import next_cursor
from spokes.crm.batching.batch_results import match_results
from spokes.crm.object_types import plural
from spokes.crm.search import Condition, search_body, where
from spokes.crm.services import CRM
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.rate_budget import CallKind
from spokes.crm.transport.response_json import Json, elements, text_id

HISTORY_BATCH: Final = 50  # HubSpot's limit for reads with history
ARCHIVED_PAGE: Final = 100
_MAX_ATTEMPTS: Final = 12
_LONGEST_WAIT_S: Final = 120.0
_ID: Final = "hs_object_id"
_LEFT_OUT: Final = ObjectNotFound(status=404)  # of a record without result and error
log = structlog.get_logger()


class SearchPage(NamedTuple):
    """One page of a search: what the walk needs, and the records."""

    page: ResultPage
    records: Sequence[Json]


class CRMReader:
    """Reads the records of one type in one portal; `counts` takes note of each call."""

    def __init__(
        self,
        crm: CRM,
        portal_id: int,
        plan: BackfillPlan,
        counts: Counts,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._crm = crm
        self._portal_id = portal_id
        self._plan = plan
        self._counts = counts
        self._sleep = sleep
        self._type = plural(plan.object_type)
        self._merge_properties = [MERGED_IDS, MERGED_CONTACTS] if plan.merges else []

    async def search(self, query: Query) -> SearchPage:
        """Return the page that a walk asks for.

        Raises:
            CRMError: HubSpot refuses the search, or has failed for long.
        """
        window = query.window
        condition = where(self._plan.last_modified).at_least(str(window.since))
        if window.until is not None:
            condition &= where(self._plan.last_modified).less_than(str(window.until))
        if query.after_id:
            condition &= where(_ID).more_than(str(query.after_id))
        body = await self._search(condition, 1 if query.is_count else PAGE_SIZE)
        records = elements(body, "results")
        ids = [int(text) for record in records if (text := text_id(record.get("id"))).isascii() and text.isdecimal()]
        page = ResultPage(ids, read_integer(body.get("total")), has_next=bool(next_cursor(body)))
        return SearchPage(page, records)

    async def count(self, since: int) -> int | None:
        """Return how many records have changed since a time, None if HubSpot does not say.

        Raises:
            CRMError: as `search`.
        """
        return (await self.search(Query(Window(since), is_count=True))).page.total

    async def with_history(self, ids: Sequence[int]) -> list[Json]:
        """Return these records with the histories of what is planned; those that are gone are left out.

        Raises:
            CRMError: as `search`.
        """
        batches = [ids[start : start + HISTORY_BATCH] for start in range(0, len(ids), HISTORY_BATCH)]
        pages = await asyncio.gather(*map(self._read_batch, batches))
        return [record for page in pages for record in page]

    async def archived(self, after: str) -> tuple[list[Json], str]:
        """Return a page of the recycle bin, and the cursor of the next page; empty if it is the last.

        Raises:
            CRMError: as `search`.
        """
        query = {"archived": "true", "limit": str(ARCHIVED_PAGE)} | ({"after": after} if after else {})
        request = ApiRequest("GET", self._crm.paths.objects(self._type), query=query)
        body = await self._send(request, "calls")
        return list(elements(body, "results")), next_cursor(body)

    async def _search(self, condition: Condition, limit: int) -> Json:
        body = search_body(
            condition, text="", sort=_ID, properties=[_ID, *self._merge_properties], limit=limit, after="0"
        )
        request = ApiRequest("POST", self._crm.paths.objects(self._type, "search"), body=body)
        return await self._send(request, "search")

    async def _read_batch(self, ids: Sequence[int]) -> list[Json]:
        """Read some records; HubSpot may refuse some of them for now, and read the others.

        A record is gone if HubSpot says so, or leaves it out twice without an error.

        Raises:
            CRMError: as `search`; also if HubSpot refuses one record for good, for another reason.
        """
        records: list[Json] = []
        wanted, left_out = [*map(str, ids)], set[str]()
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            body = await self._send(self._history_request(wanted), "calls", allows_errors=True)
            records += elements(body, "results")
            results = match_results(wanted, body, lambda record: text_id(record.get("id")), missing=_LEFT_OUT)
            failed = results.failed.items()
            for _, error in failed:
                if not isinstance(error, (TransientCRMError, ObjectNotFound)):
                    raise error
            refused = {object_id: error for object_id, error in failed if isinstance(error, TransientCRMError)}
            again = {*results.unknown, *(object_id for object_id, error in failed if error is _LEFT_OUT)} - left_out
            if not refused and not again:
                return records
            wanted, left_out = [*refused, *again], left_out | again
            for error in [*refused.values()][:1]:
                await self._wait_after(error, attempt, "calls")
        raise CRMUnavailable(status=207)

    def _history_request(self, ids: Sequence[str]) -> ApiRequest:
        body = {
            "properties": [*self._plan.properties, *self._merge_properties],
            "propertiesWithHistory": [*self._plan.properties, *([MERGED_IDS] if self._plan.merges else [])],
            "inputs": [{"id": object_id} for object_id in ids],
        }
        return ApiRequest("POST", self._crm.paths.objects(self._type, "batch", "read"), body=body)

    async def _send(self, request: ApiRequest, kind: CallKind, *, allows_errors: bool = False) -> Json:
        """Make a call, and return its body; repeat it after transient failures, and responses without results.

        Args:
            allows_errors: whether a response may have errors in place of results.

        Raises:
            CRMError: it failed for good, or too often.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            self._counts.count_call(kind)
            try:
                body = (await self._crm.send(self._portal_id, request, kind, "import")).body
                if isinstance(body.get("results"), list) or (allows_errors and elements(body, "errors")):
                    return body
                raise CRMUnavailable(status=200)
            except NotAuthorized:
                raise
            except TransientCRMError as error:
                await self._wait_after(error, attempt, kind)
        raise AssertionError

    async def _wait_after(self, error: TransientCRMError, attempt: int, kind: CallKind) -> None:
        """Wait before the next attempt.

        Raises:
            TransientCRMError: this was the last attempt.
        """
        if attempt == _MAX_ATTEMPTS:
            raise error
        wait_s = min(error.retry_after_s if error.retry_after_s is not None else 2.0**attempt, _LONGEST_WAIT_S)
        log.warning(
            "backfill_call_failed", portal_id=self._portal_id, kind=kind, error=error.reason, status=error.status,
            attempt=attempt, wait_s=round(wait_s, 1),
        )  # fmt: skip
        await self._sleep(wait_s * random.uniform(0.8, 1.0) + 0.05)
