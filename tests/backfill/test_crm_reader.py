"""spokes.backfill.crm_reader: what HubSpot leaves out or refuses for now is read again, and never taken as read."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from spokes.backfill.checkpoint import Counts
from spokes.backfill.crm_reader import CRMReader
from spokes.backfill.window_walk import Query, Window
from spokes.core.errors import CRMUnavailable, InvalidRequest
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.paths import Paths
from tests.backfill.conftest import PLAN

BUSY = {"status": "error", "category": "RATE_LIMITS", "context": {"ids": ["2"]}}
BROKEN = {"status": "error", "category": "INTERNAL_ERROR", "message": "internal error", "context": {"ids": ["2"]}}
GONE = {"status": "error", "category": "OBJECT_NOT_FOUND", "context": {"ids": ["2"]}}
INVALID = {"status": "error", "category": "VALIDATION_ERROR", "context": {"ids": ["2"]}}
QUERY = Query(Window(1, 2))


class Script:
    """A CRM that answers each call with the next body; the last one is repeated."""

    paths = Paths("2026-09")

    def __init__(self, *bodies: dict[str, Any]) -> None:
        self._bodies = [*bodies]
        self.requested: list[list[str]] = []  # ids

    async def send(self, _portal_id: int, request: ApiRequest, _kind: str, _priority: str) -> SimpleNamespace:
        body: Any = request.body or {}
        self.requested.append([each["id"] for each in body.get("inputs", ())])
        return SimpleNamespace(body=self._bodies.pop(0) if len(self._bodies) > 1 else self._bodies[0])


def results(*ids: str, errors: Sequence[object] = ()) -> dict[str, Any]:
    body: dict[str, Any] = {"status": "COMPLETE", "results": [{"id": id_} for id_ in ids]}
    return body | ({"numErrors": len(errors), "errors": [*errors]} if errors else {})


def reader_of(crm: Script, waits: list[float]) -> CRMReader:
    async def wait(seconds: float) -> None:
        waits.append(seconds)

    return CRMReader(crm, 7, PLAN, Counts(), sleep=wait)  # type: ignore[arg-type]  # answers that no simulator gives


async def read(crm: Script) -> tuple[list[str], list[float]]:
    waits: list[float] = []
    records = await reader_of(crm, waits).with_history([1, 2, 3])
    return [record["id"] for record in records], waits


@pytest.mark.parametrize("error", [BUSY, BROKEN])
async def test_record_that_is_refused_for_now_is_read_again(error: dict[str, object]) -> None:
    crm = Script(results("1", "3", errors=[error]), results(errors=[error]), results("2"))
    ids, waits = await read(crm)
    assert (ids, crm.requested, len(waits)) == (["1", "3", "2"], [["1", "2", "3"], ["2"], ["2"]], 2)


async def test_errors_without_any_result_are_no_end() -> None:
    crm = Script(
        {"status": "COMPLETE", "errors": [{**BUSY, "context": {"ids": ["1", "2", "3"]}}]}, results("1", "2", "3")
    )
    assert (await read(crm))[0] == ["1", "2", "3"]


async def test_record_that_is_refused_to_the_end_stops_the_backfill() -> None:
    crm = Script(results("1", "3", errors=[BROKEN]), results(errors=[BROKEN]))
    with pytest.raises(CRMUnavailable):
        await read(crm)
    assert len(crm.requested) == 12


async def test_record_that_is_refused_for_good_stops_the_backfill() -> None:
    with pytest.raises(InvalidRequest):
        await read(Script(results("1", "3", errors=[INVALID])))


async def test_record_that_does_not_exist_is_not_read_again() -> None:
    crm = Script(results("1", "3", errors=[GONE]))
    assert (await read(crm), len(crm.requested)) == ((["1", "3"], []), 1)


async def test_record_that_is_left_out_is_read_once_more() -> None:
    crm = Script(results("1", "3"), results("2"))
    assert ((await read(crm))[0], crm.requested[1:]) == (["1", "3", "2"], [["2"]])


async def test_record_that_is_left_out_twice_is_gone() -> None:
    crm = Script(results("1", "3"), results())
    assert ((await read(crm))[0], len(crm.requested)) == (["1", "3"], 2)


async def test_survivor_in_place_of_a_merged_record_is_read() -> None:
    crm = Script(results("1", "3", "99"), results("99"))
    assert set((await read(crm))[0]) == {"1", "3", "99"}


@pytest.mark.parametrize("body", [{}, {"results": None}, {"total": 5}, {"results": {"id": "1"}}, {"status": "error"}])
async def test_response_without_results_is_a_failure(body: dict[str, object]) -> None:
    waits: list[float] = []
    assert (await reader_of(Script(body, results("1")), waits).search(QUERY)).page.ids == [1]
    assert await reader_of(Script(body, results("1")), waits).archived("") == ([{"id": "1"}], "")
    assert (await read(Script(body, results("1", "2", "3"))))[0] == ["1", "2", "3"]
    assert len(waits) == 2


async def test_next_page_is_noted_whatever_the_total_is() -> None:
    body = {"total": 1, **results("1"), "paging": {"next": {"after": "1"}}}
    assert (await reader_of(Script(body), []).search(QUERY)).page.has_next
