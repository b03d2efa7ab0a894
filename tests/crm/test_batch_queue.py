"""Lanes over real HTTP and a real Redis: few calls out of many, and to each its own."""

import asyncio
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
from spokes.crm.batching.registry import BatchQueues
from spokes.crm.batching.updates import PropertyUpdate
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.client import HubSpotClient
from spokes.crm.transport.paced_client import PacedClient
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.rate_budget import Priority, RateBudget
from tests.support.scripted_hubspot import RecordedRequest, ScriptedHubSpot, batch_response, json_response

PORTAL = 50112233
Respond = Callable[[RecordedRequest], web.StreamResponse]


class QueueSetup:
    """A scripted HubSpot, an exchange that talks to it, and its budget."""

    def __init__(self, hubspot: ScriptedHubSpot, exchange: BatchQueues, budget: RateBudget) -> None:
        self.hubspot = hubspot
        self.queues = exchange
        self.budget = budget

    async def read(self, object_id: str, *properties: str, by: str = "") -> dict[str, object]:
        item = await self.queues.reads(PORTAL, "contacts", by).get(object_id, properties)
        return dict(item["properties"])

    async def update(self, object_id: str, *, follows: bool = True, **properties: str) -> WriteReceipt:
        return await self.queues.updates(PORTAL, "contacts").submit(object_id, PropertyUpdate(properties, follows))


@asynccontextmanager
async def open_queues(redis: Redis, respond: Respond, *, limit: int = 100) -> AsyncIterator[QueueSetup]:
    async with ScriptedHubSpot(respond) as hubspot:
        client = HubSpotClient(api_url=hubspot.url, token="t", timeout_s=3, concurrency=8)
        budget = RateBudget(redis, limit=limit, search_limit=5, window_s=0.4, concurrency=8)
        exchange = BatchQueues(PacedClient(client, budget), Paths("2026-09"))
        yield QueueSetup(hubspot, exchange, budget)
        await exchange.close()


def error_entry(object_id: str, category: str) -> dict[str, object]:
    return {"status": "error", "category": category, "message": "no", "context": {"ids": [object_id]}}


async def test_reads_that_come_together_are_one_call(redis: Redis) -> None:
    async with open_queues(redis, lambda asked: batch_response(asked, phone="1")) as bench:
        answers = await asyncio.gather(*(bench.read(str(i), "phone") for i in range(60)))

    assert bench.hubspot.paths == ["POST /crm/objects/2026-09/contacts/batch/read"]
    assert answers == [{"phone": "1"}] * 60


async def test_batch_never_has_more_than_a_hundred_inputs(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as bench:
        await asyncio.gather(*(bench.read(str(i), "phone") for i in range(250)))

    assert sorted(len(asked.ids) for asked in bench.hubspot.requests) == [50, 100, 100]


async def test_id_that_many_ask_for_is_asked_once(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as bench:
        await asyncio.gather(*(bench.read("7", "phone") for _ in range(5)), bench.read("8", "phone"))

    assert bench.hubspot.requests[0].ids == ["7", "8"]


async def test_batch_asks_for_the_union_and_each_gets_its_own_properties(redis: Redis) -> None:
    async with open_queues(redis, lambda asked: batch_response(asked, phone="1", email="a@b.c", city="X")) as bench:
        answers = await asyncio.gather(
            bench.read("1", "phone"), bench.read("1", "email", "phone"), bench.read("2", "fax")
        )

    assert bench.hubspot.requests[0].body["properties"] == ["phone", "email", "fax"]
    assert answers == [{"phone": "1"}, {"email": "a@b.c", "phone": "1"}, {"fax": None}]


async def test_while_the_budget_makes_a_batch_wait_later_callers_join_it(redis: Redis) -> None:
    async with open_queues(redis, batch_response, limit=1) as bench:
        first = asyncio.create_task(bench.read("0", "phone"))
        await asyncio.sleep(0.1)
        others = []
        for i in range(1, 11):
            others.append(asyncio.create_task(bench.read(str(i), "phone")))
            await asyncio.sleep(0.02)
        await asyncio.gather(first, *others)

    assert [len(asked.ids) for asked in bench.hubspot.requests] == [1, 10]


async def test_one_missing_object_is_one_callers_error(redis: Redis) -> None:
    def respond(asked: RecordedRequest) -> web.Response:
        return batch_response(asked, "2", phone="1") if asked.method == "POST" else json_response({}, 404)

    async with open_queues(redis, respond) as bench:
        answers = await asyncio.gather(*(bench.read(i, "phone") for i in "123"), return_exceptions=True)

    assert [answers[0], answers[2]] == [{"phone": "1"}] * 2
    assert isinstance(answers[1], ObjectNotFound)


async def test_id_that_a_batch_does_not_know_is_read_once_more_singly(redis: Redis) -> None:
    """A batch read does not know the previous ids of merged records, a single read follows them."""

    def respond(asked: RecordedRequest) -> web.Response:
        if asked.method == "POST":
            return batch_response(asked, "2", phone="1")
        return json_response({"id": "77", "properties": {"phone": "7"}})

    async with open_queues(redis, respond) as bench:
        answers = await asyncio.gather(*(bench.read(i, "phone") for i in "123"))

    assert answers == [{"phone": "1"}, {"phone": "7"}, {"phone": "1"}]
    assert bench.hubspot.paths[1:] == ["GET /crm/objects/2026-09/contacts/2"]


@pytest.mark.parametrize("status", [200, 207])
@pytest.mark.parametrize("context", [{"ids": ["2"]}, {"id": ["2"]}, {}])
async def test_partial_failure_is_read_from_the_body_whatever_the_status(
    redis: Redis, status: int, context: dict[str, object]
) -> None:
    def respond(asked: RecordedRequest) -> web.Response:
        if asked.method == "GET":
            return json_response({}, 404)
        errors = [{"category": "OBJECT_NOT_FOUND", "message": "Could not get some", "context": context}]
        body = {"status": "COMPLETE", "results": [{"id": "1", "properties": {}}], "numErrors": 1, "errors": errors}
        return json_response(body, status)

    async with open_queues(redis, respond) as bench:
        answers = await asyncio.gather(bench.read("1", "phone"), bench.read("2", "phone"), return_exceptions=True)

    assert answers[0] == {"phone": None}
    assert isinstance(answers[1], ObjectNotFound)


async def test_each_input_has_the_error_that_names_it(redis: Redis) -> None:
    def respond(asked: RecordedRequest) -> web.Response:
        if asked.method == "GET":
            return json_response({}, 404)
        errors = [
            error_entry("1", "OBJECT_NOT_FOUND"),
            error_entry("2", "MISSING_SCOPES"),
            error_entry("3", "VALIDATION_ERROR"),
        ]
        return json_response({"results": [], "errors": errors})

    async with open_queues(redis, respond) as bench:
        answers = await asyncio.gather(*(bench.read(i, "phone") for i in "123"), return_exceptions=True)

    assert [type(answer) for answer in answers] == [ObjectNotFound, NotPermitted, InvalidRequest]


async def test_failed_batch_is_that_failure_for_every_caller(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({}, 503)) as bench:
        answers = await asyncio.gather(*(bench.read(i, "phone") for i in "123"), return_exceptions=True)

    assert [type(answer) for answer in answers] == [CRMUnavailable] * 3
    assert len(bench.hubspot.requests) == 1


@pytest.mark.parametrize("body", [{"results": 5}, {"results": [1, None]}, {}, {"results": [{"properties": []}]}])
async def test_answer_of_an_odd_shape_leaves_nobody_waiting(redis: Redis, body: dict[str, object]) -> None:
    async with open_queues(redis, lambda _: json_response(body)) as bench:
        async with asyncio.timeout(3):
            answers = await asyncio.gather(bench.read("1", "a"), bench.update("2", a="b"), return_exceptions=True)

    assert isinstance(answers[0], CRMError | dict)


async def test_long_pause_is_told_to_all_who_wait(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as bench:
        await bench.budget.pause(PORTAL, "calls", 3600, "DAILY")
        async with asyncio.timeout(3):
            answers = await asyncio.gather(*(bench.read(str(i), "a") for i in range(150)), return_exceptions=True)

    assert {type(answer) for answer in answers} == {RateLimited}
    assert bench.hubspot.requests == []


async def test_caller_who_gives_up_before_the_batch_leaves_is_not_asked_for(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as bench:
        given_up = asyncio.create_task(bench.read("1", "phone"))
        staying = asyncio.create_task(bench.read("2", "phone"))
        await asyncio.sleep(0)
        given_up.cancel()
        await staying

    assert bench.hubspot.requests[0].ids == ["2"]


async def test_caller_who_gives_up_while_the_batch_is_under_way_harms_no_other(redis: Redis) -> None:
    async def respond(asked: RecordedRequest) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return batch_response(asked)

    async with open_queues(redis, respond) as bench:  # type: ignore[arg-type]
        given_up = asyncio.create_task(bench.read("1", "phone"))
        staying = asyncio.create_task(bench.read("1", "phone"))
        await asyncio.sleep(0.1)
        given_up.cancel()

        assert await staying == {"phone": None}


async def test_batch_that_everybody_left_costs_no_place(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as bench:
        given_up = asyncio.create_task(bench.read("1", "phone"))
        await asyncio.sleep(0)
        given_up.cancel()
        await bench.queues.close()

        assert bench.hubspot.requests == []
        assert (await bench.budget.state(PORTAL))["calls"].used == 0


async def test_reads_by_a_property_find_theirs_whatever_the_case_of_the_address(redis: Redis) -> None:
    def respond(asked: RecordedRequest) -> web.Response:
        return json_response({"results": [{"id": "9", "properties": {"email": i, "phone": "1"}} for i in asked.ids]})

    async with open_queues(redis, respond) as bench:
        answers = await asyncio.gather(*(bench.read(e, "phone", by="email") for e in ("Ada@B.c", "ada@b.c")))

    assert answers == [{"phone": "1"}] * 2
    assert (bench.hubspot.requests[0].ids, bench.hubspot.requests[0].body["idProperty"]) == (["ada@b.c"], "email")


async def test_result_nobody_asked_for_makes_the_missing_be_asked_for_singly(redis: Redis) -> None:
    """A second address of a contact finds it, but the answer shows its first one."""

    def respond(asked: RecordedRequest) -> web.Response:
        primary = {"id": "9", "properties": {"email": "first@b.c", "phone": "1"}}
        if asked.method == "POST":
            return json_response({"results": [primary]})
        return json_response(primary) if "second" in asked.path else json_response({}, 404)

    async with open_queues(redis, respond) as bench:
        answers = await asyncio.gather(
            *(bench.read(e, "phone", by="email") for e in ("second@b.c", "nobody@b.c")), return_exceptions=True
        )

    assert answers[0] == {"phone": "1"}
    assert isinstance(answers[1], ObjectNotFound)
    assert {asked.query.get("idProperty") for asked in bench.hubspot.requests[1:]} == {"email"}


async def test_updates_of_different_objects_are_one_call(redis: Redis) -> None:
    async with open_queues(redis, batch_response) as bench:
        await asyncio.gather(*(bench.update(str(i), phone=f"+{i}") for i in range(30)))

    (asked,) = bench.hubspot.requests
    assert asked.path.endswith("/contacts/batch/update")
    assert asked.body["inputs"][3] == {"id": "3", "properties": {"phone": "+3"}}


async def test_single_update_is_a_plain_one(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({"id": "1"}, 200, X_HubSpot_Correlation_Id="c-9")) as bench:
        done = await bench.update("1", phone="+1")

    assert bench.hubspot.paths == ["PATCH /crm/objects/2026-09/contacts/1"]
    assert done == WriteReceipt("1", "c-9")


async def test_updates_of_one_object_keep_their_order_and_are_never_under_way_together(redis: Redis) -> None:
    under_way: set[str] = set()
    written: list[str] = []

    async def respond(asked: RecordedRequest) -> web.StreamResponse:
        inputs = asked.body.get("inputs") or [{"id": asked.path.rpartition("/")[2], **asked.body}]
        ids = {given["id"] for given in inputs}
        assert len(ids) == len(inputs)
        assert not ids & under_way
        under_way.update(ids)
        await asyncio.sleep(0.03)
        under_way.difference_update(ids)
        written.extend(given["properties"]["phone"] for given in inputs if given["id"] == "1")
        return json_response({"results": [{"id": i} for i in ids]})

    async with open_queues(redis, respond) as bench:  # type: ignore[arg-type]
        updates = [bench.update("1", phone=str(n)) for n in range(4)]
        await asyncio.gather(*updates, *(bench.update(str(i), phone="x") for i in range(2, 6)))

    assert written == ["0", "1", "2", "3"]


async def test_update_given_up_lets_the_next_of_its_object_go(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({"id": "1"})) as bench:
        given_up = asyncio.create_task(bench.update("1", phone="0"))
        staying = asyncio.create_task(bench.update("1", phone="1"))
        await asyncio.sleep(0)
        given_up.cancel()
        async with asyncio.timeout(2):
            await staying

    assert [asked.body for asked in bench.hubspot.requests] == [{"properties": {"phone": "1"}}]


async def test_one_bad_input_fails_alone(redis: Redis) -> None:
    def respond(asked: RecordedRequest) -> web.Response:
        ids = asked.ids if asked.method == "POST" else [asked.path.rpartition("/")[2]]
        if "13" in ids:
            return json_response({"category": "VALIDATION_ERROR"}, 400)
        return json_response({"results": [{"id": i} for i in ids]})

    async with open_queues(redis, respond) as bench:
        answers = await asyncio.gather(*(bench.update(str(i), phone="x") for i in range(64)), return_exceptions=True)

    assert [i for i, answer in enumerate(answers) if isinstance(answer, InvalidRequest)] == [13]
    assert len(bench.hubspot.requests) == 1 + 2 * 6


async def test_who_lost_the_right_to_write_while_a_batch_was_refused_is_left_out_of_its_halves(redis: Redis) -> None:
    refusals: list[RecordedRequest] = []

    def respond(asked: RecordedRequest) -> web.Response:
        ids = asked.ids if asked.method == "POST" else [asked.path.rpartition("/")[2]]
        if len(ids) == 4:  # the batch as it first left
            refusals.append(asked)
            return json_response({"category": "VALIDATION_ERROR"}, 400)
        return json_response({"results": [{"id": i} for i in ids]})

    class LeasedUntilRefused(NamedTuple):
        priority: Priority = "interactive"

        def before_send(self) -> None:
            if refusals:
                raise LeaseLost

    async with open_queues(redis, respond) as bench:
        updates = bench.queues.updates(PORTAL, "contacts")
        update = PropertyUpdate({"phone": "x"}, follow_merge=True)
        leased = (updates.submit(i, update, LeasedUntilRefused()) for i in "12")
        others = (bench.update(i, phone="x") for i in "34")
        answers = await asyncio.gather(*leased, *others, return_exceptions=True)

    assert [type(answer) for answer in answers] == [LeaseLost, LeaseLost, WriteReceipt, WriteReceipt]
    assert [asked.ids for asked in bench.hubspot.requests] == [["1", "2", "3", "4"], ["3", "4"]]


async def test_partial_failure_of_an_update_is_for_the_one_it_names(redis: Redis) -> None:
    def respond(asked: RecordedRequest) -> web.Response:
        return json_response({"results": [{"id": "1"}], "errors": [error_entry("2", "VALIDATION_ERROR")]}, 207)

    async with open_queues(redis, respond) as bench:
        answers = await asyncio.gather(bench.update("1", a="x"), bench.update("2", a="x"), return_exceptions=True)

    assert [type(answer) for answer in answers] == [WriteReceipt, InvalidRequest]
    assert len(bench.hubspot.requests) == 1


async def test_transient_failure_of_an_update_is_not_repeated_here(redis: Redis) -> None:
    async with open_queues(redis, lambda _: json_response({}, 502)) as bench:
        answers = await asyncio.gather(bench.update("1", a="x"), bench.update("2", a="x"), return_exceptions=True)

    assert [type(answer) for answer in answers] == [CRMUnavailable] * 2
    assert len(bench.hubspot.requests) == 1


@pytest.mark.parametrize("errors", [[], [error_entry("2", "OBJECT_NOT_FOUND")]])
async def test_object_that_a_batch_update_does_not_know_is_updated_singly(redis: Redis, errors: list[object]) -> None:
    """The previous id of a merged record is left out of a batch answer, and works in a single update."""

    def respond(asked: RecordedRequest) -> web.Response:
        return json_response({"results": [{"id": "1"}], "errors": errors} if asked.method == "POST" else {"id": "77"})

    async with open_queues(redis, respond) as bench:
        await asyncio.gather(bench.update("1", a="x"), bench.update("2", a="x"))

    assert bench.hubspot.paths[1:] == ["PATCH /crm/objects/2026-09/contacts/2"]


@pytest.mark.parametrize(
    "unknown",
    [
        ({"results": []}, 200),
        ({"results": [], "errors": [error_entry("2", "OBJECT_NOT_FOUND")]}, 207),
        ({"category": "OBJECT_NOT_FOUND"}, 404),
    ],
)
@pytest.mark.parametrize(("status", "error"), [(200, ObjectMerged), (404, ObjectNotFound)])
async def test_update_that_does_not_follow_merges_tells_them_from_what_is_gone(
    redis: Redis, unknown: tuple[dict[str, object], int], status: int, error: type[CRMError]
) -> None:
    def respond(asked: RecordedRequest) -> web.Response:
        return json_response(*unknown) if asked.method == "POST" else json_response({"id": "77"}, status)

    async with open_queues(redis, respond) as bench:
        with pytest.raises(error):
            await bench.update("2", follows=False, a="x")

    where = "/crm/objects/2026-09/contacts"
    assert bench.hubspot.paths == [f"POST {where}/batch/update", f"GET {where}/2"]


async def test_associations_are_read_together_and_pages_are_followed(redis: Redis) -> None:
    def respond(asked: RecordedRequest) -> web.Response:
        if asked.method == "GET":
            return json_response({"results": [{"toObjectId": 13}]})
        first = {"from": {"id": "1"}, "to": [{"toObjectId": 11}, {"toObjectId": 12}, {"toObjectId": 11}]}
        second = {"from": {"id": "2"}, "to": [], "paging": {"next": {"after": "x"}}}
        return json_response({"results": [first, second], "errors": [error_entry("3", "OBJECT_NOT_FOUND")]}, 207)

    async with open_queues(redis, respond) as bench:
        queue = bench.queues.associations(PORTAL, "contact", "notes")
        answers = await asyncio.gather(*(queue.get(i) for i in "123"))

    assert [[end.id for end in ends] for ends in answers] == [["11", "12"], ["13"], []]
    assert bench.hubspot.paths == [
        "POST /crm/associations/2026-09/contacts/notes/batch/read",
        "GET /crm/objects/2026-09/contacts/2/associations/notes",
    ]


async def test_closing_refuses_who_waits_and_answers_who_was_heard(redis: Redis) -> None:
    async def respond(asked: RecordedRequest) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return batch_response(asked)

    async with open_queues(redis, respond, limit=1) as bench:  # type: ignore[arg-type]
        heard = asyncio.create_task(bench.read("1", "phone"))
        await asyncio.sleep(0.1)
        waiting = [asyncio.create_task(bench.read("2", "phone")), asyncio.create_task(bench.update("2", phone="1"))]
        await asyncio.sleep(0.02)
        await bench.queues.close()
        answers = await asyncio.gather(heard, *waiting, return_exceptions=True)

    assert answers[0] == {"phone": None}
    assert [type(answer) for answer in answers[1:]] == [CRMUnavailable] * 2
    assert len(bench.hubspot.requests) == 1
