"""spokes.console.web over real HTTP, on a real Valkey: who may do what, and what surrounds every answer."""

import re
import time
from collections.abc import AsyncIterator

import jwt
import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role, policy_of
from spokes.console.app import create_app
from spokes.console.web.app_keys import SETTINGS
from spokes.console.web.middlewares import SECURITY_HEADERS
from spokes.core.redis.keys import LIVE_PROCESSES, METRIC_TOTALS
from spokes.core.settings import Settings
from tests.support.console_visitor import KEY as CONSOLE_KEY
from tests.support.console_visitor import Visitor, console


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis) -> AsyncIterator[TestClient]:
    async with console(environ) as client:
        yield client


def test_every_route_has_an_access_rule(settings: Settings) -> None:
    routes = create_app(settings).router.routes()
    assert [route for route in routes if policy_of(route.handler) is None] == []


async def test_every_response_has_the_security_headers(client: TestClient) -> None:
    async with client.get("/console/nowhere") as answer:
        assert answer.status == 404
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def addresses(client: TestClient) -> list[tuple[str, str]]:
    """Method and an address of every route there is."""
    filled = {"word": "w", "portal": "7", "key": "aa", "name": "console.css", "id": "7-1-1"}
    found = []
    for route in client.server.app.router.routes():
        assert route.resource is not None
        path = re.sub(r"\{(\w+)\}", lambda place: filled[place[1]], route.resource.canonical)
        if route.method not in {"HEAD", "*"}:
            found.append((route.method, path))
    return found


async def test_form_from_another_site_or_without_the_csrf_token_is_refused(client: TestClient, redis: Redis) -> None:
    visitor = await Visitor.come(client, *Role)
    forms = [path for method, path in addresses(client) if method == "POST" and path.startswith("/console")]
    assert len(forms) >= 6
    before = await redis.keys()
    for path in forms:
        for given in (
            {"site": "cross-site"},
            {"site": "same-site"},
            {"site": "none"},
            {"csrf": ""},
            {"csrf": "0" * 64},
        ):
            answer = await visitor.post(path, {"reason": "x", "all": "true", "name": "ada", "password": "x"}, **given)
            assert answer.status == 403, (path, given)
    figures = {METRIC_TOTALS.encode(), LIVE_PROCESSES.encode()}  # which every process tells now and then
    assert set(await redis.keys()) - figures == set(before) - figures
    assert (await visitor.get("/console/dead"))[0] != 303  # nor has any of them logged out


async def test_origin_header_decides_without_sec_fetch_site(client: TestClient) -> None:
    host = f"{client.host}:{client.port}"
    for origin, status in (("https://evil.example", 403), ("null", 403), ("", 403), (f"http://{host}", 401)):
        form = {"name": "ada", "password": "wrong"}
        async with client.post("/console/login", data=form, headers={"Origin": origin}) as answer:
            assert answer.status == status, origin


async def test_every_response_has_security_headers_a_request_id_and_no_store(client: TestClient) -> None:
    for method, path in addresses(client):
        async with client.request(method, path, allow_redirects=False) as answer:
            for name in SECURITY_HEADERS:
                assert name in answer.headers, (method, path, name)
            assert len(answer.headers["X-Request-Id"]) == 16
            assert "no-store" in answer.headers["Cache-Control"] or "/static/" in path, path


async def test_routes_that_are_not_public_require_a_login(client: TestClient) -> None:
    open_to_all = {"/console/login", "/console/login/w", "/api/v1/openapi.json"}
    for method, path in addresses(client):
        if path in open_to_all or "/static/" in path or "/oidc/" in path:
            continue
        async with client.request(method, path, allow_redirects=False, headers={"Sec-Fetch-Site": "same-origin"}) as a:
            assert (a.status, a.headers.get("Location")) in {(401, None), (303, "/console/login")}, (method, path)


async def test_forged_token_is_a_problem_and_a_security_event(
    client: TestClient,
) -> None:
    key = ApiTokens.from_settings(client.server.app[SETTINGS]).key
    now = int(time.time())
    claims = {
        "iss": "spokes",
        "aud": "spokes-api",
        "sub": "x",
        "iat": now,
        "exp": now + 60,
        "jti": "1",
        "roles": ["admin"],
    }
    forged = {
        "none": jwt.encode(claims, None, "none"),
        "another key": jwt.encode(claims, b"x" * 64, "HS256"),
        "expired": jwt.encode({**claims, "iat": now - 900, "exp": now - 600}, key, "HS256"),
        "for a year": jwt.encode({**claims, "exp": now + 31_536_000}, key, "HS256"),
        "another audience": jwt.encode({**claims, "aud": "spokes"}, key, "HS256"),
        "nonsense": "a.b.c",
    }
    for why, token in forged.items():
        with capture_logs() as lines:
            async with client.get("/api/v1/queue", headers={"Authorization": f"Bearer {token}"}) as answer:
                told = await answer.json(content_type="application/problem+json")
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), why
        assert told["correlation_id"] == answer.headers["X-Request-Id"]
        assert "token_refused" in [line["event"] for line in lines], why
        assert token not in str(lines), why
    good = jwt.encode(claims, key, "HS256")  # or all this would say nothing
    async with client.get("/api/v1/queue", headers={"Authorization": f"Bearer {good}"}) as answer:
        assert answer.status == 200


async def test_cors_preflight_is_answered_only_for_listed_origins(environ: dict[str, str], redis: Redis) -> None:
    given = {"CONSOLE_KEY": CONSOLE_KEY, "CONSOLE_ORIGINS": "https://ours.example"}
    async with TestClient(TestServer(create_app(Settings.from_env({**environ, **given})))) as client:
        for origin, path, status in (
            ("https://ours.example", "/api/v1/queue", 204),
            ("https://evil.example", "/api/v1/queue", 405),
            ("https://ours.example.evil.example", "/api/v1/queue", 405),
            ("null", "/api/v1/queue", 405),
            ("https://ours.example", "/console/login", 405),
        ):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            async with client.options(path, headers=headers) as answer:
                assert answer.status == status, (origin, path)
                assert ("Access-Control-Allow-Origin" in answer.headers) == (status == 204)


async def test_api_without_redis_is_503_with_retry_after(environ: dict[str, str]) -> None:
    nobody = {"REDIS_URL": "redis://127.0.0.1:9", "CONSOLE_KEY": CONSOLE_KEY}
    settings = Settings.from_env({**environ, **nobody})
    headers = {"Authorization": f"Bearer {ApiTokens.from_settings(settings).mint('robot', [Role.VIEWER]).token}"}
    async with (
        TestClient(TestServer(create_app(settings))) as client,
        client.get("/api/v1/queue", headers=headers) as answer,
    ):
        assert (answer.status, answer.content_type) == (503, "application/problem+json")
        assert "Retry-After" in answer.headers
