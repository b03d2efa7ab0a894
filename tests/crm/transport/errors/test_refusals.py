"""Refusals over real HTTP: the same error alone, in a shared batch and for a whole batch; each costs one input."""

import asyncio

import pytest
from aiohttp import web
from redis.asyncio import Redis

from spokes.core.errors import Conflict, CRMUnavailable, InvalidRequest, NotPermitted, ObjectLocked, ProxyRefusal
from spokes.crm.batching import batch_queue
from tests.crm.batching.test_batch_queue import PORTAL, open_queues
from tests.crm.transport.errors.test_error_classes import CONFLICTS
from tests.support.hubspot.scripted_hubspot import RecordedRequest, batch_response, json_response

BAD = "2"


def entry_for(request: RecordedRequest, input_id: str, entry: dict[str, object]) -> web.Response:
    """Return a 207 in which one input is refused and the others are done."""
    context = {"ids": [input_id], **(entry.get("context") or {})}  # type: ignore[dict-item]  # a mapping in every entry
    results = [{"id": i, "properties": {}} for i in request.ids if i != input_id]
    errors = [{"status": "error", **entry, "context": context}]
    return json_response({"status": "COMPLETE", "results": results, "numErrors": 1, "errors": errors}, 207)


@pytest.mark.parametrize("body", CONFLICTS)
@pytest.mark.parametrize("whole", [False, True])
async def test_conflict_is_the_same_alone_in_a_batch_and_for_a_whole_batch(
    redis: Redis, body: dict[str, object], *, whole: bool
) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        ids = request.ids if "inputs" in request.body else [request.path.rpartition("/")[2]]
        if BAD not in ids:
            return batch_response(request) if "inputs" in request.body else json_response({"id": ids[0]})
        if whole or len(ids) == 1:
            return json_response({"status": "error", **body}, 400)
        return entry_for(request, BAD, body)

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.update(i, city="x") for i in ("1", "2", "3")), return_exceptions=True)
        with pytest.raises(Conflict) as alone:
            await setup.update(BAD, city="x")

    assert [isinstance(result, Exception) for result in results] == [False, True, False]
    assert isinstance(results[1], Conflict)
    assert results[1].existing_id == alone.value.existing_id == "7"


@pytest.mark.parametrize(
    "category",
    [
        "INTERNAL_ERROR", "LOCKED", "TIMEOUT", "EXPIRED_AUTHENTICATION", "RATE_LIMITS", "GATEWAY_TIMEOUT",
        "RATE_LIMIT_EXCEEDED", "THROTTLED", "UNAUTHORIZED", "SERVICE_UNAVAILABLE",
    ],
)  # fmt: skip
async def test_input_refused_for_now_is_sent_again_alone(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, category: str
) -> None:
    monkeypatch.setattr(batch_queue, "_LOCKED_PAUSE_S", 0.1)

    def respond(request: RecordedRequest) -> web.Response:
        if "inputs" in request.body and len(request.ids) > 1:
            return entry_for(request, BAD, {"category": category})
        return json_response({"id": BAD})

    async with open_queues(redis, respond) as setup:
        receipts = await asyncio.gather(*(setup.update(i, city="x") for i in ("1", "2", "3")))

    assert [receipt.object_id for receipt in receipts] == ["1", "2", "3"]
    assert [path.rpartition("/")[2] for path in setup.hubspot.paths] == ["update", BAD]


async def test_other_inputs_do_not_wait_for_one_refused_for_now(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_queue, "_LOCKED_PAUSE_S", 30)

    def respond(request: RecordedRequest) -> web.Response:
        if "inputs" in request.body and BAD in request.ids:
            return entry_for(request, BAD, {"category": "LOCKED"})
        return batch_response(request) if "inputs" in request.body else json_response({"id": "1"})

    async with open_queues(redis, respond) as setup:
        locked = asyncio.create_task(setup.update(BAD, city="x"))
        later = asyncio.create_task(setup.update(BAD, city="y"))
        async with asyncio.timeout(20):
            await asyncio.gather(setup.update("1", city="x"), setup.update("3", city="x"))
            await setup.update("1", city="y")
        assert not locked.done()
        assert not later.done()
        await setup.queues.close()  # ends the pause

    assert isinstance(locked.exception(), CRMUnavailable)


async def test_input_refused_twice_is_the_callers_transient_error(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_queue, "_LOCKED_PAUSE_S", 0.1)

    def respond(request: RecordedRequest) -> web.Response:
        if request.method == "POST":
            return entry_for(request, BAD, {"category": "LOCKED"})
        return json_response({"category": "LOCKED"}, 423)

    async with open_queues(redis, respond) as setup:
        good, bad = await asyncio.gather(setup.read("1", "city"), setup.read(BAD, "city"), return_exceptions=True)

    assert isinstance(bad, ObjectLocked)
    assert good == {"city": None}
    assert len(setup.hubspot.requests) == 2


async def test_creation_that_may_have_been_made_is_not_sent_again(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        traces = [item["objectWriteTraceId"] for item in request.body["inputs"]]
        results = [{"id": "9", "properties": {}, "objectWriteTraceId": traces[0]}]
        context = {"objectWriteTraceId": [traces[1]]}
        errors = [{"status": "error", "category": "INTERNAL_ERROR", "context": context}]
        return json_response({"results": results, "errors": errors}, 207)

    async with open_queues(redis, respond) as setup:
        creations = setup.queues.creations(PORTAL, "contacts")
        results = await asyncio.gather(
            *(creations.submit(trace, {"properties": {}}) for trace in ("a", "b")), return_exceptions=True
        )

    assert isinstance(results[1], CRMUnavailable)
    assert len(setup.hubspot.requests) == 1


async def test_locked_creation_is_sent_again_alone(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_queue, "_LOCKED_PAUSE_S", 0.1)

    def respond(request: RecordedRequest) -> web.Response:
        if "inputs" not in request.body:
            return json_response({"id": "10"}, 201)
        traces = [item["objectWriteTraceId"] for item in request.body["inputs"]]
        results = [{"id": "9", "properties": {}, "objectWriteTraceId": traces[0]}]
        errors = [{"category": "LOCKED", "context": {"objectWriteTraceId": [traces[1]]}}]
        return json_response({"results": results, "errors": errors}, 207)

    async with open_queues(redis, respond) as setup:
        creations = setup.queues.creations(PORTAL, "contacts")
        receipts = await asyncio.gather(*(creations.submit(trace, {"properties": {}}) for trace in ("a", "b")))

    assert [receipt.object_id for receipt in receipts] == ["9", "10"]


async def test_other_refusals_stay_the_inputs_own(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        return entry_for(request, BAD, {"category": "VALIDATION_ERROR"})

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.update(i, city="x") for i in ("1", "2")), return_exceptions=True)

    assert isinstance(results[1], InvalidRequest)
    assert not isinstance(results[0], Exception)
    assert len(setup.hubspot.requests) == 1


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("page", ["", "<html><h1>Access denied</h1></html>", '{"message": "Forbidden"}'])
async def test_input_that_a_firewall_refuses_fails_alone_and_for_now(redis: Redis, status: int, page: str) -> None:
    def respond(request: RecordedRequest) -> web.Response:
        ids = request.ids if "inputs" in request.body else [request.path.rpartition("/")[2]]
        if BAD in ids:
            return web.Response(text=page, status=status, content_type="text/html")
        return batch_response(request) if "inputs" in request.body else json_response({"id": ids[0]})

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.update(i, city="x") for i in ("1", "2", "3")), return_exceptions=True)

    assert [type(result) for result in results if isinstance(result, Exception)] == [ProxyRefusal]
    assert isinstance(results[1], ProxyRefusal)


async def test_missing_scope_of_a_whole_batch_is_not_permitted(redis: Redis) -> None:
    def respond(_: RecordedRequest) -> web.Response:
        return json_response({"status": "error", "category": "MISSING_SCOPES", "correlationId": "a"}, 403)

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.update(i, city="x") for i in ("1", "2")), return_exceptions=True)

    assert [type(result) for result in results] == [NotPermitted, NotPermitted]


async def test_empty_response_to_a_read_is_no_record_with_cleared_properties(redis: Redis) -> None:
    def respond(_: RecordedRequest) -> web.Response:
        return web.Response()

    async with open_queues(redis, respond) as setup:
        results = await asyncio.gather(*(setup.read(i, "city") for i in ("1", "2")), return_exceptions=True)

    assert [type(result) for result in results] == [CRMUnavailable, CRMUnavailable]


async def test_own_id_in_the_refusal_of_an_update_is_not_the_existing_record(redis: Redis) -> None:
    def respond(_: RecordedRequest) -> web.Response:
        return json_response({"category": "CONFLICT", "context": {"id": ["5"], "objectId": ["8"]}}, 409)

    async with open_queues(redis, respond) as setup:
        with pytest.raises(Conflict) as refused:
            await setup.update("5", city="x")

    assert refused.value.existing_id == "8"
