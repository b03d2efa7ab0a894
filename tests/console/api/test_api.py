"""The JSON API over real HTTP, on a real Valkey and a real store."""

import re
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any
from urllib.parse import quote

import jwt
import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs
from yarl import URL

from spokes.audit.archiver import Archiver
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Permission, Role, permissions_of
from spokes.console.accounts.sessions import COOKIE
from spokes.console.accounts.users import Users
from spokes.console.api.openapi import document
from spokes.console.api.route import PREFIX
from spokes.console.api.routes import ROUTES
from spokes.console.app import create_app
from spokes.console.web.app_keys import SESSIONS, SETTINGS
from spokes.core.delivery import Entry
from spokes.core.redis.keys import CREDENTIAL_PORTALS, JOB_QUEUE, LIVE_PROCESSES, METRIC_TOTALS
from spokes.core.settings import Settings
from spokes.privacy.requests import ErasureRequest, Law, add_request
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.support.console_visitor import KEY, SEALS, Visitor, archive, running_console
from tests.support.deployment import KEY as AUDIT_KEY
from tests.support.events import event, record, recorded, store_dead_letters

PORTAL = 50112233
HIDDEN = "eve@example.com"
WHY = {"reason": "HubSpot was away"}


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis, sqlite_engine: AsyncEngine) -> AsyncIterator[TestClient]:
    await Archiver(redis, sqlite_engine, AUDIT_KEY).run_once()
    async with running_console(environ, CONSOLE_ORIGINS="https://ours.example") as client:
        yield client


@pytest.fixture
async def letters(redis: Redis) -> list[DeadLetter]:
    """Dead letters of two portals and two causes."""
    dead_letters = [
        DeadLetter(
            portal, f"{portal}-1-1", Entry(key, 1, event(number, portalId=portal, propertyValue=HIDDEN)), cause,
            "contacts.welcome", number,
        )
        for number, (portal, key, cause) in enumerate(
            [(7, "aa", "object_not_found"), (7, "bb", "not_permitted"), (8, "cc", "object_not_found")], start=1
        )
    ]  # fmt: skip
    await store_dead_letters(redis, *dead_letters)
    return dead_letters


class Program:
    """A client of the API with a token."""

    def __init__(
        self, client: TestClient, *roles: Role, portals: Collection[int] | None = None, name: str = "robot"
    ) -> None:
        token = ApiTokens.from_settings(client.server.app[SETTINGS]).mint(name, roles, portals).token
        self.client, self.headers = client, {"Authorization": f"Bearer {token}"}

    async def get(self, path: str, **params: str) -> tuple[int, Any]:
        async with self.client.get(PREFIX + path, params=params, headers=self.headers) as response:
            return response.status, orjson.loads(await response.read())

    async def post(self, path: str, body: Mapping[str, object]) -> tuple[int, Any]:
        async with self.client.post(URL(PREFIX + path, encoded=True), json=body, headers=self.headers) as response:
            return response.status, orjson.loads(await response.read())


def examples() -> list[tuple[str, str]]:
    """Return method and an example address of every route."""
    parameters = {"portal": "7", "key": "aa", "id": "7-1-1", "name": "ada", "handler": "contacts.none"}
    return [
        (r.method, PREFIX + re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\})+\}", lambda m: parameters[m[1]], r.path))
        for r in ROUTES
    ]


@pytest.mark.parametrize(("method", "path"), examples()[:-1])
async def test_request_without_a_token_is_401(client: TestClient, method: str, path: str) -> None:
    async with client.request(method, path) as response:
        assert response.status == 401
        assert response.content_type == "application/problem+json"
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_role_may_call_exactly_the_routes_of_the_matrix(client: TestClient) -> None:
    for role in Role:
        program = Program(client, role, portals=[9])
        for route, (method, path) in zip(ROUTES[:-1], examples()[:-1], strict=True):
            async with client.request(method, path, headers=program.headers) as response:
                assert isinstance(route.rule, Permission)
                body = orjson.loads(await response.read() or b"{}")
                refused = isinstance(body, dict) and body.get("detail") == "Your role does not permit this."
                assert refused == (route.rule not in permissions_of([role])), (role, path)


async def test_api_ignores_the_session_cookie(client: TestClient) -> None:
    visitor = await Visitor.signed_in(client, Role.ADMIN)
    assert (await visitor.get(f"{PREFIX}/queue"))[0] == 401


async def test_pages_ignore_bearer_tokens(client: TestClient) -> None:
    program = Program(client, Role.ADMIN)
    async with client.get("/console/dead", headers=program.headers, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "/console/login")


async def test_token_in_a_cookie_or_url_is_ignored(client: TestClient) -> None:
    token = Program(client, Role.ADMIN).headers["Authorization"].partition(" ")[2]
    async with client.get(f"{PREFIX}/queue?access_token={token}", headers={"Cookie": f"{COOKIE}={token}"}) as response:
        assert response.status == 401


async def test_queue_and_budget_are_returned(client: TestClient) -> None:
    program = Program(client, Role.VIEWER)
    assert (await program.get("/queue"))[1]["due"] == 0
    assert (await program.get("/budget"))[0] == 200


async def test_dead_letters_are_paged_and_show_no_values(client: TestClient, letters: list[DeadLetter]) -> None:
    program, letters_read, after = Program(client, Role.VIEWER), [], {}
    while True:
        status, page = await program.get("/dead-letters", limit="2", **after)
        assert status == 200
        letters_read += page["items"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert [letter["event"]["key"] for letter in letters_read] == ["bb", "aa", "cc"]
    assert HIDDEN not in str(letters_read)


@pytest.mark.parametrize("after", ["7:gone", "7", ":aa", "x:aa", "8:aa", "9" * 60 + ":aa"])
async def test_page_after_a_settled_or_unknown_letter_is_gone(
    client: TestClient, letters: list[DeadLetter], after: str
) -> None:
    status, page = await Program(client, Role.VIEWER).get("/dead-letters", after=after)
    assert (status, page["type"]) == (410, "urn:spokes:problem:place_gone")


async def test_replay_is_audited_with_actor_address_and_reason(
    client: TestClient, redis: Redis, letters: list[DeadLetter]
) -> None:
    status, done = await Program(client, Role.OPERATOR).post("/dead-letters/7/aa/replay", WHY)
    assert (status, done) == (200, {"count": 1})
    assert await DeadLetters(redis).get(7, "aa") is None
    assert await redis.zcard(JOB_QUEUE) == 1
    *_, audited = await recorded(redis)
    assert (audited.actor, audited.reason, audited.detail["address"]) == ("robot", WHY["reason"], "127.0.0.1")


async def test_dead_letters_are_discarded_by_cause(client: TestClient, redis: Redis, letters: list[DeadLetter]) -> None:
    selection = {"cause": "object_not_found", **WHY}
    assert await Program(client, Role.OPERATOR).post("/dead-letters/discard", selection) == (200, {"count": 2})
    assert await DeadLetters(redis).get(7, "bb") is not None


async def test_bulk_action_without_a_filter_needs_all(client: TestClient, letters: list[DeadLetter]) -> None:
    operator = Program(client, Role.OPERATOR)
    assert (await operator.post("/dead-letters/discard", WHY))[0] == 422
    assert await operator.post("/dead-letters/discard", {"all": True, **WHY}) == (200, {"count": 3})


async def test_other_portals_are_not_found_and_not_changed(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine, letters: list[DeadLetter]
) -> None:
    await archive(redis, sqlite_engine, record(1, event_key="ek", delivery_id="dk", portal_id=PORTAL))
    program = Program(client, Role.ADMIN, portals=[8])
    for path in ("/dead-letters/7/aa", "/events/ek", "/deliveries/dk"):
        assert (await program.get(path))[0] == 404, path
    assert (await program.get("/dead-letters", portal_id="7"))[1]["items"] == []
    assert (await program.get("/audit"))[1]["items"] == []
    assert (await program.get("/timeline", object="51"))[1]["records"] == []
    for path in ("/dead-letters/7/aa/replay", "/dead-letters/7/aa/discard", "/portals/7/pause", "/portals/7/resume"):
        assert (await program.post(path, WHY))[0] == 404, path
    for selection in ({"all": True}, {"portal_id": 7}, {"keys": ["aa", "bb"]}):
        await program.post("/dead-letters/discard", {**selection, **WHY})
    assert await DeadLetters(redis).get(7, "aa") is not None
    assert await PortalPauses(redis).list() == {}


async def test_portal_is_paused_and_resumed(client: TestClient, redis: Redis) -> None:
    operator = Program(client, Role.OPERATOR)
    assert (await operator.post("/portals/7/pause", WHY))[1]["reason"] == "operator"
    assert set((await operator.get("/queue"))[1]["paused"]) == {"7"}
    assert (await operator.post("/portals/7/resume", WHY))[1] == {"count": 1, "note": ""}
    await PortalPauses(redis).pause(7, "portal_moving", seconds=3_600)
    note = "If HubSpot is still moving it, the next call fails and the portal is paused again."
    assert (await operator.post("/portals/7/resume", WHY))[1] == {"count": 1, "note": note}
    assert (await operator.post("/portals/7/resume", WHY))[1] == {"count": 0, "note": ""}
    assert await PortalPauses(redis).list() == {}


async def test_handler_is_paused_and_resumed(client: TestClient, redis: Redis) -> None:
    operator, path = Program(client, Role.OPERATOR), "/portals/7/handlers/contacts.keep_reachable"
    assert (await operator.post(f"{path}/pause", WHY))[1] == {"count": 1}
    assert (await operator.get("/queue"))[1]["paused_calls"][0]["kind"] == "handler:contacts.keep_reachable"
    assert (await operator.post(f"{path}/resume", WHY))[1] == {"count": 1}
    assert (await operator.post(f"{path}/resume", WHY))[1] == {"count": 0}
    assert (await operator.post("/portals/7/handlers/contacts.none/pause", WHY))[0] == 404


async def test_unknown_portal_is_not_paused(client: TestClient, redis: Redis) -> None:
    await redis.zadd(CREDENTIAL_PORTALS, {"8": 1})
    status, body = await Program(client, Role.OPERATOR).post("/portals/7/pause", WHY)
    assert (status, body["type"], await PortalPauses(redis).list()) == (404, "urn:spokes:problem:unknown_portal", {})


async def test_audit_is_paged_by_a_cursor_and_a_link(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
) -> None:
    await archive(redis, sqlite_engine, *(record(number) for number in range(7)))
    program, ids, path = Program(client, Role.VIEWER), [], f"{PREFIX}/audit?limit=3&object_type=contact"
    while path:
        async with client.get(path, headers=program.headers) as response:
            ids += [record["id"] for record in orjson.loads(await response.read())["items"]]
            path = str(response.links["next"]["url"].relative()) if response.links else ""
    assert len(set(ids)) == len(ids) == 7


async def test_audit_of_one_token_is_returned_and_exported(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
) -> None:
    tokens = ["0123456789abcdef", "fedcba9876543210"]
    audited = [record(number, detail={"token_fingerprint": token}) for number, token in enumerate(tokens)]
    await archive(redis, sqlite_engine, *audited)
    program = Program(client, Role.OPERATOR)
    items = (await program.get("/audit", token=tokens[1]))[1]["items"]
    assert [item["id"] for item in items] == [audited[1].id]
    async with client.get(f"{PREFIX}/audit/export?token={tokens[0]}", headers=program.headers) as response:
        assert [orjson.loads(line)["id"] async for line in response.content] == [audited[0].id]
    async with client.get(f"{PREFIX}/audit/export?token=pat-1", headers=program.headers) as response:
        assert response.status == 422


async def test_events_deliveries_and_timeline_are_returned(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
) -> None:
    audited = record(1, event_key="ek", delivery_id="dk")
    await archive(redis, sqlite_engine, audited)
    program = Program(client, Role.VIEWER)
    assert (await program.get("/events"))[1]["items"][0]["event_key"] == "ek"
    assert (await program.get("/events/ek"))[1]["records"][0]["delivery_id"] == "dk"
    assert (await program.get("/deliveries/dk"))[1]["id"] == "dk"
    assert len((await program.get("/timeline", object=f"{audited.object_type} {audited.object_id}"))[1]["records"]) == 1


async def test_audit_is_exported_and_verified(client: TestClient, redis: Redis, sqlite_engine: AsyncEngine) -> None:
    await archive(redis, sqlite_engine, *(record(number) for number in range(3)))
    program = Program(client, Role.OPERATOR)
    async with client.get(f"{PREFIX}/audit/export", headers=program.headers) as response:
        assert [orjson.loads(line)["seq"] for line in (await response.read()).splitlines()] == [1, 2, 3]
    assert (await program.get("/audit/verify"))[1]["intact"] is True


async def test_revoked_token_is_refused_and_others_still_work(client: TestClient, redis: Redis) -> None:
    stolen, other, admin = (Program(client, Role.ADMIN, name=name) for name in ("robot", "robot", "ada"))
    token_id = jwt.decode(stolen.headers["Authorization"].split()[1], options={"verify_signature": False})["jti"]
    assert await admin.post(f"/tokens/{token_id}/revoke", WHY) == (200, {"count": 1})
    with capture_logs() as lines:
        assert (await stolen.get("/queue"))[0] == 401
    assert [line["why"] for line in lines if line["event"] == "token_refused"] == [
        "The token was revoked. `spokes token mint` makes a new one."
    ]
    assert (await other.get("/queue"))[0] == 200
    *_, audited = await recorded(redis)
    assert (audited.action, audited.actor, audited.reason) == ("token.revoked", "ada", WHY["reason"])
    assert audited.detail == {"token_id": token_id, "address": "127.0.0.1"}


async def test_program_ends_the_sessions_of_an_account(client: TestClient, redis: Redis) -> None:
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    admin = Program(client, Role.ADMIN)
    assert await admin.post("/users/ada/logout", WHY) == (200, {"count": 1})
    assert (await visitor.get("/console/dead"))[0] == 303
    *_, audited = await recorded(redis)
    assert (audited.action, audited.actor, audited.detail["user"]) == ("sessions.ended", "robot", "ada")
    assert await admin.post("/users/ada/logout", WHY) == (200, {"count": 0})


@pytest.mark.parametrize("name", ["oidc:auth0|5f7c", "oidc:a/b", "a+b=c~d@e.f", "ünï", "oidc:%2F%", "x" * 200, "a b"])
async def test_actor_of_any_name_can_be_logged_out(client: TestClient, name: str) -> None:
    sessions = client.server.app[SESSIONS]
    await sessions.start(name, [Role.VIEWER], None)
    admin = Program(client, Role.ADMIN)
    assert await admin.post(f"/users/{quote(name, safe='')}/logout", WHY) == (200, {"count": 1})
    assert await admin.post(f"/tokens/{quote(name, safe='')}/revoke", WHY) == (200, {"count": 1})


async def test_accounts_are_listed_without_credentials(client: TestClient, redis: Redis) -> None:
    await Users(redis, SEALS).put("ada", [Role.VIEWER], [7], "correct horse battery")
    status, accounts = await Program(client, Role.ADMIN).get("/users")
    assert (status, accounts) == (200, [{"name": "ada", "roles": ["viewer"], "portals": [7], "password": True}])


async def test_admin_of_one_portal_cannot_manage_accounts_or_tokens(client: TestClient) -> None:
    visitor, program = await Visitor.signed_in(client, Role.VIEWER), Program(client, Role.ADMIN, portals=[7])
    assert (await program.get("/users"))[0] == 403
    for path in ("/users/ada/logout", "/tokens/abc/revoke"):
        assert (await program.post(path, WHY))[0] == 403
    assert (await visitor.get("/console/dead"))[0] == 200


async def test_privacy_officer_sees_privacy_requests(client: TestClient, sqlite_engine: AsyncEngine) -> None:
    await add_request(sqlite_engine, ErasureRequest(PORTAL, "a" * 64, ("51",), Law.GDPR, "ada"))
    assert (await Program(client, Role.PRIVACY_OFFICER).get("/privacy-requests"))[1][0]["due_in_days"] >= 27
    assert (await Program(client, Role.OPERATOR).get("/privacy-requests"))[0] == 403


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/audit", {"limit": "0"}),
        ("/audit", {"limit": "501"}),
        ("/audit", {"after": "x"}),
        ("/audit", {"invented": "1"}),
        ("/audit", {"token": "pat-eu1-1"}),
        ("/audit", {"since": "yesterday"}),
        ("/audit", {"since": "9" * 40}),
        ("/audit", {"portal_id": "9" * 40}),
        ("/audit", {"actor": "\0"}),
        ("/events", {"outcome": "lost"}),
        ("/timeline", {}),
        ("/timeline", {"object": "who?"}),
        ("/audit/export", {"format": "xml"}),
    ],
)
async def test_invalid_query_is_422_and_its_value_is_not_quoted(
    client: TestClient, path: str, query: dict[str, str]
) -> None:
    status, problem = await Program(client, Role.ADMIN).get(path, **query)
    assert (status, len(problem["correlation_id"])) == (422, 16)
    assert "9999" not in problem["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"reason":" "}', b'{"reason":"x","more":1}', b'{"reason":"\\u0000"}']
)
async def test_action_without_a_valid_reason_is_refused(
    client: TestClient, redis: Redis, letters: list[DeadLetter], body: bytes
) -> None:
    headers = {**Program(client, Role.ADMIN).headers, "Content-Type": "application/json"}
    async with client.post(f"{PREFIX}/dead-letters/7/aa/discard", data=body, headers=headers) as response:
        assert response.status == 422
    assert await DeadLetters(redis).get(7, "aa") is not None


@pytest.mark.parametrize(
    "selection", [{"portal_id": False}, {"portal_id": "7"}, {"all": "yes"}, {"all": 1}, {"keys": "aa"}]
)
async def test_body_types_are_checked_strictly(
    client: TestClient, redis: Redis, letters: list[DeadLetter], selection: dict[str, object]
) -> None:
    assert (await Program(client, Role.ADMIN).post("/dead-letters/discard", {**selection, **WHY}))[0] == 422
    assert await DeadLetters(redis).get(7, "aa") is not None


@pytest.mark.parametrize("path", ["/nowhere", "/queue", "/dead-letters/replay"])
async def test_unknown_path_and_method_are_problems_with_the_request_id(client: TestClient, path: str) -> None:
    async with client.delete(PREFIX + path, headers={"X-Request-Id": "0123456789abcdef"}) as response:
        assert response.status == (404 if path == "/nowhere" else 405)
        assert ("Allow" in response.headers) == (response.status == 405)
        assert response.content_type == "application/problem+json"
        assert orjson.loads(await response.read())["correlation_id"] == "0123456789abcdef"
        assert response.headers["X-Request-Id"] == "0123456789abcdef"


async def test_body_too_large_is_a_problem(client: TestClient) -> None:
    headers = {**Program(client, Role.ADMIN).headers, "Content-Type": "application/json"}
    body = b'{"reason":"' + b"x" * 300_000 + b'"}'
    async with client.post(f"{PREFIX}/dead-letters/discard", data=body, headers=headers) as response:
        assert (response.status, response.content_type) == (413, "application/problem+json")


async def test_internal_error_is_a_problem_without_details(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError(HIDDEN)

    monkeypatch.setattr("spokes.console.api.read_endpoints.queue_status", fails)
    status, problem = await Program(client, Role.VIEWER).get("/queue")
    assert (status, problem["type"], len(problem["correlation_id"])) == (500, "urn:spokes:problem:internal", 16)
    assert HIDDEN not in str(problem)


async def test_form_body_is_415(client: TestClient, letters: list[DeadLetter]) -> None:
    headers = Program(client, Role.ADMIN).headers
    async with client.post(f"{PREFIX}/dead-letters/7/aa/discard", data={"reason": "x"}, headers=headers) as response:
        assert response.status == 415


async def test_nothing_changes_on_get(client: TestClient, redis: Redis, letters: list[DeadLetter]) -> None:
    async def contents() -> dict[bytes, bytes]:
        metrics = {METRIC_TOTALS.encode(), LIVE_PROCESSES.encode()}  # written every few seconds
        names = [name async for name in redis.scan_iter() if b"limit" not in name and name not in metrics]
        return {name: await redis.dump(name) for name in names}

    program, before = Program(client, Role.ADMIN), await contents()
    gets = {path for method, path in examples() if method == "GET"}
    for _, path in examples():
        async with client.get(path, headers=program.headers) as response:
            assert path in gets or response.status in {404, 405}, path
    assert await contents() == before


async def test_rate_limit_is_per_actor(environ: dict[str, str], redis: Redis) -> None:
    settings = Settings.from_env({**environ, "CONSOLE_KEY": KEY, "CONSOLE_RATE_LIMIT": "5"})
    async with TestClient(TestServer(create_app(settings))) as client:
        busy, other = Program(client, Role.VIEWER), Program(client, Role.VIEWER, name="other")
        statuses = [(await busy.get("/queue"))[0] for _ in range(11)]  # more than two minutes allow
        assert statuses[:5] == [200] * 5
        assert 429 in statuses
        assert (await other.get("/queue"))[0] == 200


async def test_cors_headers_are_set_only_for_listed_origins(client: TestClient) -> None:
    for origin, allowed in (("https://ours.example", "https://ours.example"), ("https://evil.example", None)):
        headers = {**Program(client, Role.VIEWER).headers, "Origin": origin}
        async with client.get(f"{PREFIX}/queue", headers=headers) as response:
            assert response.headers.get("Access-Control-Allow-Origin") == allowed
            assert "Access-Control-Allow-Credentials" not in response.headers


def test_openapi_document_has_every_route_and_every_referenced_schema() -> None:
    api = document(ROUTES)
    text = orjson.dumps(api).decode()
    paths = api["paths"]
    assert isinstance(paths, dict)
    assert sum(map(len, paths.values())) == len(ROUTES)
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(set(names)) == len(names)
    for reference in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert reference in api["components"]["schemas"]  # type: ignore[index]  # a JSON document


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
async def test_export_has_a_media_type_of_the_openapi_document(client: TestClient, file_format: str) -> None:
    api: Any = document(ROUTES)
    media_types = api["paths"][f"{PREFIX}/audit/export"]["get"]["responses"]["200"]["content"]
    headers = Program(client, Role.ADMIN).headers
    async with client.get(f"{PREFIX}/audit/export", params={"format": file_format}, headers=headers) as response:
        assert response.content_type in media_types


async def test_openapi_document_needs_no_token(client: TestClient) -> None:
    async with client.get(f"{PREFIX}/openapi.json") as response:
        assert orjson.loads(await response.read())["openapi"] == "3.1.0"
