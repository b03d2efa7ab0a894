"""Batch queues over real HTTP and a real Redis: few calls for many callers, and each caller's own result."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from aiohttp import web
from redis.asyncio import Redis

from spokes.core.errors import (
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    LeaseLost,
    NotPermitted,
    ObjectMerged,
    ObjectNotFound,
    RateLimited,
)
from spokes.core.priority import Priority
from spokes.crm.batching.errors import CreationUnreadable
from spokes.crm.batching.registry import BatchQueues
from spokes.crm.batching.updates import PropertyUpdate
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.client import HubSpotClient
from spokes.crm.transport.paced_client import PacedClient, UncheckedContext
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.rate_budget import RateBudget
from tests.support.hubspot.scripted_hubspot import RecordedRequest, ScriptedHubSpot, batch_response, json_response
from tests.support.waiting import until

PORTAL = 50112233
Respond = Callable[[RecordedRequest], web.StreamResponse]


class QueueSetup:
    """A scripted HubSpot, the batch queues that call it, and their budget."""

    def __init__(self, hubspot: ScriptedHubSpot, exchange: BatchQueues, budget: RateBudget) -> None:
        self.hubspot = hubspot
        self.queues = exchange
        self.budget = budget

    async def read(self, object_id: str, *properties: str, by: str = "") -> dict[str, object]:
        item = await self.queues.reads(PORTAL, "contacts", by).get(object_id, properties)
        return dict(item["properties"])

    async def update(self, object_id: str, *, follows: bool = True, **properties: str) -> WriteReceipt:
        return await self.queues.updates(PORTAL, "contacts").submit(object_id, PropertyUpdate(properties, follows))


class SameClient:
    """Credentials of every portal: one client."""

    portals = (PORTAL,)

    def __init__(self, client: HubSpotClient) -> None:
        self._client = client

    async def client(self, portal_id: int) -> HubSpotClient:
        """Return the client, whatever the portal."""
        del portal_id
        return self._client

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()


@asynccontextmanager
async def open_queues(
    redis: Redis, respond: Respond, *, limit: int = 100, window_s: float = 0.4
) -> AsyncIterator[QueueSetup]:
    async with ScriptedHubSpot(respond) as hubspot:
        client = HubSpotClient(api_url=hubspot.url, token="t", timeout_s=20, concurrency=8)
        budget = RateBudget(redis, limit=limit, search_limit=5, window_s=window_s, concurrency=8)
        exchange = BatchQueues(PacedClient(SameClient(client), budget), Paths("2026-09"))
        yield QueueSetup(hubspot, exchange, budget)
        await exchange.close()


def error_entry(object_id: str, category: str) -> dict[str, object]:
    return {"status": "error", "category": category, "message": "no", "context": {"ids": [object_id]}}


async def test_concurrent_reads_are_one_call(redis: Redis) -> None:
    async with open_queues(redis, lambda request: batch_response(request, phone="1")) as setup:
        results = await asyncio.gather(*(setup.read(str(i), "phone") for i in range(60)))

    assert setup.hubspot.paths == ["POST /crm/objects/2026-09/contacts/batch/read"]
    assert results == [{"phone": "1"}] * 60


async def test_batch_never_has_more_than_a_hundred_inputs(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as setup:
        await asyncio.gather(*(setup.read(str(i), "phone") for i in range(250)))

    assert sorted(len(request.ids) for request in setup.hubspot.requests) == [50, 100, 100]


async def test_id_requested_by_many_callers_is_sent_once(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as setup:
        await asyncio.gather(*(setup.read("7", "phone") for _ in range(5)), setup.read("8", "phone"))

    assert setup.hubspot.requests[0].ids == ["7", "8"]


async def test_batch_requests_the_union_and_each_caller_gets_its_own_properties(redis: Redis) -> None:
    async with open_queues(redis, lambda request: batch_response(request, phone="1", email="a@b.c", city="X")) as setup:
        results = await asyncio.gather(
            setup.read("1", "phone"), setup.read("1", "email", "phone"), setup.read("2", "fax")
        )

    assert setup.hubspot.requests[0].body["properties"] == ["phone", "email", "fax"]
    assert results == [{"phone": "1"}, {"email": "a@b.c", "phone": "1"}, {"fax": None}]


async def test_submissions_join_a_batch_that_waits_for_its_slot(redis: Redis) -> None:
    async with open_queues(redis, batch_response, limit=1, window_s=2.0) as setup:
        first = asyncio.create_task(setup.read("0", "phone"))
        await until(lambda: setup.hubspot.requests)
        others = []
        for i in range(1, 11):
            others.append(asyncio.create_task(setup.read(str(i), "phone")))
            await asyncio.sleep(0.02)
        await asyncio.gather(first, *others)

    assert [len(request.ids) for request in setup.hubspot.requests] == [1, 10]


async def test_missing_object_is_an_error_for_its_caller_only(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        return batch_response(request, "2", phone="1") if request.method == "POST" else json_response({}, 404)

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.read(i, "phone") for i in "123"), return_exceptions=True)

    assert [results[0], results[2]] == [{"phone": "1"}] * 2
    assert isinstance(results[1], ObjectNotFound)


async def test_id_that_a_batch_did_not_find_is_read_alone(redis: Redis) -> None:
    """A batch read does not find the former ids of merged records; a single read follows the merge."""

    def respond(request: RecordedRequest) -> web.Response:
        if request.method == "POST":
            return batch_response(request, "2", phone="1")
        return json_response({"id": "77", "properties": {"phone": "7"}})

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.read(i, "phone") for i in "123"))

    assert results == [{"phone": "1"}, {"phone": "7"}, {"phone": "1"}]
    assert setup.hubspot.paths[1:] == ["GET /crm/objects/2026-09/contacts/2"]


@pytest.mark.parametrize("status", [200, 207])
@pytest.mark.parametrize("context", [{"ids": ["2"]}, {"id": ["2"]}, {}])
async def test_partial_failure_is_read_from_the_body_at_any_status(
    redis: Redis, status: int, context: dict[str, object]
) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        if request.method == "GET":
            return json_response({}, 404)
        errors = [{"category": "OBJECT_NOT_FOUND", "message": "Could not get some", "context": context}]
        body = {"status": "COMPLETE", "results": [{"id": "1", "properties": {}}], "numErrors": 1, "errors": errors}
        return json_response(body, status)

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(setup.read("1", "phone"), setup.read("2", "phone"), return_exceptions=True)

    assert results[0] == {"phone": None}
    assert isinstance(results[1], ObjectNotFound)


async def test_each_input_has_the_error_that_names_it(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        if request.method == "GET":
            return json_response({}, 404)
        errors = [
            error_entry("1", "OBJECT_NOT_FOUND"),
            error_entry("2", "MISSING_SCOPES"),
            error_entry("3", "VALIDATION_ERROR"),
        ]
        return json_response({"results": [], "errors": errors})

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.read(i, "phone") for i in "123"), return_exceptions=True)

    assert [type(result) for result in results] == [ObjectNotFound, NotPermitted, InvalidRequest]


async def test_failed_batch_is_that_failure_for_every_caller(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({}, 503)) as setup:
        results = await asyncio.gather(*(setup.read(i, "phone") for i in "123"), return_exceptions=True)

    assert [type(result) for result in results] == [CRMUnavailable] * 3
    assert len(setup.hubspot.requests) == 1


@pytest.mark.parametrize("body", [{"results": 5}, {"results": [1, None]}, {}, {"results": [{"properties": []}]}])
async def test_malformed_response_leaves_no_caller_waiting(redis: Redis, body: dict[str, object]) -> None:
    async with open_queues(redis, lambda _: json_response(body)) as setup:
        async with asyncio.timeout(20):
            results = await asyncio.gather(setup.read("1", "a"), setup.update("2", a="b"), return_exceptions=True)

    assert isinstance(results[0], CRMError | dict)


async def test_long_pause_is_an_error_for_every_waiting_caller(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as setup:
        await setup.budget.pause(PORTAL, "calls", 3600, "DAILY")
        async with asyncio.timeout(20):
            results = await asyncio.gather(*(setup.read(str(i), "a") for i in range(150)), return_exceptions=True)

    assert {type(result) for result in results} == {RateLimited}
    assert setup.hubspot.requests == []


async def test_submission_cancelled_before_the_batch_is_sent_is_left_out(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as setup:
        cancelled = asyncio.create_task(setup.read("1", "phone"))
        remaining = asyncio.create_task(setup.read("2", "phone"))
        await asyncio.sleep(0)
        cancelled.cancel()
        await remaining

    assert setup.hubspot.requests[0].ids == ["2"]


async def test_cancelling_one_caller_in_flight_does_not_affect_the_others(redis: Redis) -> None:
    async def respond(request: RecordedRequest) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return batch_response(request)

    async with open_queues(redis, respond) as setup:  # type: ignore[arg-type]
        cancelled = asyncio.create_task(setup.read("1", "phone"))
        remaining = asyncio.create_task(setup.read("1", "phone"))
        await asyncio.sleep(0.1)
        cancelled.cancel()

        assert await remaining == {"phone": None}


async def test_batch_with_only_cancelled_callers_uses_no_slot(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as setup:
        cancelled = asyncio.create_task(setup.read("1", "phone"))
        await asyncio.sleep(0)
        cancelled.cancel()
        await setup.queues.close()

        assert setup.hubspot.requests == []
        assert (await setup.budget.state(PORTAL))["calls"].used == 0


async def test_reads_by_email_ignore_case(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        return json_response({"results": [{"id": "9", "properties": {"email": i, "phone": "1"}} for i in request.ids]})

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.read(e, "phone", by="email") for e in ("Ada@B.c", "ada@b.c")))

    assert results == [{"phone": "1"}] * 2
    assert (setup.hubspot.requests[0].ids, setup.hubspot.requests[0].body["idProperty"]) == (["ada@b.c"], "email")


async def test_unmatched_result_makes_missing_inputs_be_read_alone(redis: Redis) -> None:
    """A contact is found by its second address, but the result shows its first one."""

    def respond(request: RecordedRequest) -> web.Response:
        primary = {"id": "9", "properties": {"email": "first@b.c", "phone": "1"}}
        if request.method == "POST":
            return json_response({"results": [primary]})
        return json_response(primary) if "second" in request.path else json_response({}, 404)

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(
            *(setup.read(e, "phone", by="email") for e in ("second@b.c", "nobody@b.c")), return_exceptions=True
        )

    assert results[0] == {"phone": "1"}
    assert isinstance(results[1], ObjectNotFound)
    assert {request.query.get("idProperty") for request in setup.hubspot.requests[1:]} == {"email"}


async def test_updates_of_different_objects_are_one_call(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as setup:
        await asyncio.gather(*(setup.update(str(i), phone=f"+{i}") for i in range(30)))

    (request,) = setup.hubspot.requests
    assert request.path.endswith("/contacts/batch/update")
    assert request.body["inputs"][3] == {"id": "3", "properties": {"phone": "+3"}}


async def test_single_update_uses_the_plain_endpoint(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({"id": "1"}, 200, X_HubSpot_Correlation_Id="c-9")) as setup:
        receipt = await setup.update("1", phone="+1")

    assert setup.hubspot.paths == ["PATCH /crm/objects/2026-09/contacts/1"]
    assert receipt == WriteReceipt("1", "c-9")


async def test_updates_of_one_object_keep_their_order_and_are_never_in_flight_together(redis: Redis) -> None:
    in_flight: set[str] = set()
    written: list[str] = []

    async def respond(request: RecordedRequest) -> web.StreamResponse:
        inputs = request.body.get("inputs") or [{"id": request.path.rpartition("/")[2], **request.body}]
        ids = {item["id"] for item in inputs}
        assert len(ids) == len(inputs)
        assert not ids & in_flight
        in_flight.update(ids)
        await asyncio.sleep(0.03)
        in_flight.difference_update(ids)
        written.extend(item["properties"]["phone"] for item in inputs if item["id"] == "1")
        return json_response({"results": [{"id": i} for i in ids]})

    async with open_queues(redis, respond) as setup:  # type: ignore[arg-type]
        updates = [setup.update("1", phone=str(n)) for n in range(4)]
        await asyncio.gather(*updates, *(setup.update(str(i), phone="x") for i in range(2, 6)))

    assert written == ["0", "1", "2", "3"]


async def test_cancelled_update_does_not_block_the_next_of_its_object(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({"id": "1"})) as setup:
        cancelled = asyncio.create_task(setup.update("1", phone="0"))
        remaining = asyncio.create_task(setup.update("1", phone="1"))
        await asyncio.sleep(0)
        cancelled.cancel()
        async with asyncio.timeout(20):
            await remaining

    assert [request.body for request in setup.hubspot.requests] == [{"properties": {"phone": "1"}}]


async def test_bad_input_fails_alone(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        ids = request.ids if request.method == "POST" else [request.path.rpartition("/")[2]]
        if "13" in ids:
            return json_response({"category": "VALIDATION_ERROR"}, 400)
        return json_response({"results": [{"id": i} for i in ids]})

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.update(str(i), phone="x") for i in range(64)), return_exceptions=True)

    assert [i for i, result in enumerate(results) if isinstance(result, InvalidRequest)] == [13]
    assert len(setup.hubspot.requests) == 1 + 2 * 6


async def test_submissions_that_lost_their_lease_are_left_out_of_the_halves_of_a_refused_batch(redis: Redis) -> None:
    refusals: list[RecordedRequest] = []

    def respond(request: RecordedRequest) -> web.Response:
        ids = request.ids if request.method == "POST" else [request.path.rpartition("/")[2]]
        if len(ids) == 4:  # the whole batch, sent first
            refusals.append(request)
            return json_response({"category": "VALIDATION_ERROR"}, 400)
        return json_response({"results": [{"id": i} for i in ids]})

    class LeasedUntilRefused(NamedTuple):
        priority: Priority = "interactive"
        has_failed_before: bool = False

        def before_send(self) -> None:
            if refusals:
                raise LeaseLost

    async with open_queues(redis, respond) as setup:
        updates = setup.queues.updates(PORTAL, "contacts")
        update = PropertyUpdate({"phone": "x"}, follow_merge=True)
        leased = (updates.submit(i, update, LeasedUntilRefused()) for i in "12")
        others = (setup.update(i, phone="x") for i in "34")
        results = await asyncio.gather(*leased, *others, return_exceptions=True)

    assert [type(result) for result in results] == [LeaseLost, LeaseLost, WriteReceipt, WriteReceipt]
    assert [request.ids for request in setup.hubspot.requests] == [["1", "2", "3", "4"], ["3", "4"]]


async def test_partial_failure_of_an_update_is_the_named_inputs_error(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        return json_response({"results": [{"id": "1"}], "errors": [error_entry("2", "VALIDATION_ERROR")]}, 207)

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(setup.update("1", a="x"), setup.update("2", a="x"), return_exceptions=True)

    assert [type(result) for result in results] == [WriteReceipt, InvalidRequest]
    assert len(setup.hubspot.requests) == 1


async def test_transient_failure_of_an_update_is_not_retried(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({}, 502)) as setup:
        results = await asyncio.gather(setup.update("1", a="x"), setup.update("2", a="x"), return_exceptions=True)

    assert [type(result) for result in results] == [CRMUnavailable] * 2
    assert len(setup.hubspot.requests) == 1


async def test_input_that_fails_every_batch_costs_its_own_event_alone_from_the_second_attempt_on(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        ids = request.ids if request.method == "POST" else [request.path.rpartition("/")[2]]
        if "3" in ids:
            return json_response({}, 500)
        return json_response({"results": [{"id": i} for i in ids]} if request.method == "POST" else {"id": ids[0]})

    async with open_queues(redis, respond) as setup:
        updates = setup.queues.updates(PORTAL, "contacts")
        update = PropertyUpdate({"phone": "x"}, follow_merge=True)
        ends = []
        for has_failed_before in (False, True):
            context = UncheckedContext("interactive", has_failed_before)
            results = await asyncio.gather(
                *(updates.submit(i, update, context) for i in "1234"), return_exceptions=True
            )
            ends.append([type(result) for result in results])

    assert ends[0] == [CRMUnavailable] * 4
    assert ends[1] == [WriteReceipt, WriteReceipt, CRMUnavailable, WriteReceipt]


async def test_event_that_failed_before_waits_for_the_end_of_an_outage_with_all_others(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({}, 503)) as setup:
        updates, update = setup.queues.updates(PORTAL, "contacts"), PropertyUpdate({"phone": "x"}, follow_merge=True)
        submitted = (updates.submit(i, update, UncheckedContext("interactive", True)) for i in "12")
        results = await asyncio.gather(*submitted, return_exceptions=True)

    assert [type(result) for result in results] == [CRMUnavailable] * 2
    assert len(setup.hubspot.requests) == 1


UNREADABLE = {
    "text": lambda: web.Response(text="<html>", content_type="text/html"),
    "broken": lambda: web.Response(text='{"results": [', content_type="application/json"),
    "list": lambda: web.Response(text="[]", content_type="application/json"),
    "empty": lambda: web.Response(status=204),
    "object": lambda: json_response({}),
    "accepted": lambda: json_response({"status": "PENDING"}, 202),
    "results of another type": lambda: json_response({"results": 5}),
    "results without trace": lambda: json_response({"results": [{"id": "1"}, {"id": "2"}]}),
    "no results": lambda: json_response({"status": "COMPLETE", "results": []}, 201),
}


@pytest.mark.parametrize("has_failed_before", [False, True])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", UNREADABLE)
async def test_creation_whose_answer_is_unreadable_is_not_repeated(
    redis: Redis, name: str, count: int, has_failed_before: bool
) -> None:
    if (name, count) == ("results without trace", 1):
        name = "object"
    async with open_queues(redis, lambda _: UNREADABLE[name]()) as setup:
        queue = setup.queues.creations(PORTAL, "contacts")
        context = UncheckedContext("interactive", has_failed_before)
        submitted = (queue.submit(str(n), {"properties": {"city": "x"}}, context) for n in range(count))
        results = await asyncio.gather(*submitted, return_exceptions=True)

    assert [type(result) for result in results] == [CreationUnreadable] * count
    assert len(setup.hubspot.requests) == 1


async def test_creation_without_an_entry_costs_its_own_caller_alone(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.StreamResponse:
        [first, *_] = request.body["inputs"]
        return json_response({"results": [{"id": "77", "objectWriteTraceId": first["objectWriteTraceId"]}]}, 201)

    async with open_queues(redis, respond) as setup:
        queue = setup.queues.creations(PORTAL, "contacts")
        results = await asyncio.gather(*(queue.submit(n, {"properties": {}}) for n in "12"), return_exceptions=True)

    assert [type(result) for result in results] == [WriteReceipt, CreationUnreadable]


@pytest.mark.parametrize("errors", [[], [error_entry("2", "OBJECT_NOT_FOUND")]])
async def test_object_that_a_batch_update_did_not_find_is_updated_alone(redis: Redis, errors: list[object]) -> None:
    """HubSpot omits the former id of a merged record from a batch response, and follows it in a single update."""

    def respond(request: RecordedRequest) -> web.Response:
        return json_response({"results": [{"id": "1"}], "errors": errors} if request.method == "POST" else {"id": "77"})

    async with open_queues(redis, respond) as setup:
        await asyncio.gather(setup.update("1", a="x"), setup.update("2", a="x"))

    assert setup.hubspot.paths[1:] == ["PATCH /crm/objects/2026-09/contacts/2"]


@pytest.mark.parametrize(
    "unknown",
    [
        ({"results": []}, 200),
        ({"results": [], "errors": [error_entry("2", "OBJECT_NOT_FOUND")]}, 207),
        ({"category": "OBJECT_NOT_FOUND"}, 404),
    ],
)
@pytest.mark.parametrize(("status", "error"), [(200, ObjectMerged), (404, ObjectNotFound)])
async def test_update_that_does_not_follow_merges_distinguishes_merged_from_missing(
    redis: Redis, unknown: tuple[dict[str, object], int], status: int, error: type[CRMError]
) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        return json_response(*unknown) if request.method == "POST" else json_response({"id": "77"}, status)

    async with open_queues(redis, respond) as setup:
        with pytest.raises(error):
            await setup.update("2", follows=False, a="x")

    where = "/crm/objects/2026-09/contacts"
    assert setup.hubspot.paths == [f"POST {where}/batch/update", f"GET {where}/2"]


async def test_associations_are_read_in_one_batch_and_pages_are_followed(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        if request.method == "GET":
            return json_response({"results": [{"toObjectId": 13}]})
        first = {"from": {"id": "1"}, "to": [{"toObjectId": 11}, {"toObjectId": 12}, {"toObjectId": 11}]}
        second = {"from": {"id": "2"}, "to": [], "paging": {"next": {"after": "x"}}}
        return json_response({"results": [first, second], "errors": [error_entry("3", "OBJECT_NOT_FOUND")]}, 207)

    async with open_queues(redis, respond) as setup:
        queue = setup.queues.associations(PORTAL, "contact", "notes")
        results = await asyncio.gather(*(queue.get(i) for i in "123"))

    assert [[associated.id for associated in objects] for objects in results] == [["11", "12"], ["13"], []]
    assert setup.hubspot.paths == [
        "POST /crm/associations/2026-09/contacts/notes/batch/read",
        "GET /crm/objects/2026-09/contacts/2/associations/notes",
    ]


async def test_close_rejects_waiting_callers_and_resolves_calls_in_flight(redis: Redis) -> None:
    async def respond(request: RecordedRequest) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return batch_response(request)

    async with open_queues(redis, respond, limit=1, window_s=60) as setup:  # type: ignore[arg-type]
        heard = asyncio.create_task(setup.read("1", "phone"))
        await until(lambda: setup.hubspot.requests)
        waiting = [asyncio.create_task(setup.read("2", "phone")), asyncio.create_task(setup.update("2", phone="1"))]
        await asyncio.sleep(0.02)
        await setup.queues.close()
        results = await asyncio.gather(heard, *waiting, return_exceptions=True)

    assert results[0] == {"phone": None}
    assert [type(result) for result in results[1:]] == [CRMUnavailable] * 2
    assert len(setup.hubspot.requests) == 1


async def test_event_loop_runs_after_every_ten_results_of_a_batch(redis: Redis) -> None:
    resumed_in: list[int] = []
    iteration = 0

    async with open_queues(redis, lambda request: batch_response(request, phone="1")) as setup:

        async def count_iterations() -> None:
            nonlocal iteration
            while True:
                iteration += 1
                await asyncio.sleep(0)

        async def read(number: int) -> None:
            await setup.read(str(number), "phone")
            resumed_in.append(iteration)

        counter = asyncio.create_task(count_iterations())
        await asyncio.gather(*(read(number) for number in range(1, 101)))
        counter.cancel()

        assert len(setup.hubspot.requests) == 1
        assert max(Counter(resumed_in).values()) == 10


async def test_inputs_are_awaited_from_the_call_to_its_answer(redis: Redis) -> None:
    seen: list[int] = []

    def respond(request: RecordedRequest) -> web.StreamResponse:
        seen.append(setup.queues.client.inputs_awaited)
        return batch_response(request)

    async with open_queues(redis, respond) as setup:
        reads = [setup.read(object_id, "email") for object_id in ("101", "102", "103")]
        await asyncio.gather(*reads)
        assert (seen, setup.queues.client.inputs_awaited) == ([3], 0)


async def test_inputs_of_a_failed_call_are_not_awaited(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({}, status=503)) as setup:
        with pytest.raises(CRMUnavailable):
            await setup.read("101", "email")
        assert setup.queues.client.inputs_awaited == 0
