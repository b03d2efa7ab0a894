"""The console's middlewares over real HTTP, on a real Valkey: access, CSRF, headers, error responses."""

import re
import time

import jwt
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
from tests.support.console_visitor import Visitor


def test_every_route_has_an_access_rule(settings: Settings) -> None:
    routes = create_app(settings).router.routes()
    assert [route for route in routes if policy_of(route.handler) is None] == []


async def test_every_response_has_the_security_headers(client: TestClient) -> None:
    async with client.get("/console/nowhere") as response:
        assert response.status == 404
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert "unsafe-inline" not in response.headers["Content-Security-Policy"]
        assert response.headers["Strict-Transport-Security"].startswith("max-age=")
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def addresses(client: TestClient) -> list[tuple[str, str]]:
    """Return method and an example address of every route."""
    parameters = {"word": "w", "portal": "7", "key": "aa", "name": "console.css", "id": "0123abcd", "handler": "h"}
    examples = []
    for route in client.server.app.router.routes():
        assert route.resource is not None
        path = re.sub(r"\{(\w+)\}", lambda match: parameters[match[1]], route.resource.canonical)
        if route.method not in {"HEAD", "*"}:
            examples.append((route.method, path))
    return examples


async def test_form_from_another_site_or_without_the_csrf_token_is_refused(client: TestClient, redis: Redis) -> None:
    visitor = await Visitor.signed_in(client, *Role)
    forms = [path for method, path in addresses(client) if method == "POST" and path.startswith("/console")]
    assert len(forms) >= 6
    before = await redis.keys()
    fields = {"reason": "x", "all": "true", "name": "ada", "password": "x"}
    for path in forms:
        for overrides in (
            {"site": "cross-site"},
            {"site": "same-site"},
            {"site": "none"},
            {"csrf": ""},
            {"csrf": "0" * 64},
        ):
            response = await visitor.post(path, fields, **overrides)
            assert response.status == 403, (path, overrides)
    metrics = {METRIC_TOTALS.encode(), LIVE_PROCESSES.encode()}  # written by every process
    assert set(await redis.keys()) - metrics == set(before) - metrics
    assert (await visitor.get("/console/dead"))[0] != 303  # none of the forms logged out


async def test_origin_header_decides_without_sec_fetch_site(client: TestClient) -> None:
    host = f"{client.host}:{client.port}"
    for origin, status in (("https://evil.example", 403), ("null", 403), ("", 403), (f"http://{host}", 401)):
        form = {"name": "ada", "password": "wrong"}
        async with client.post(
            "/console/login", data=form, headers={"Origin": origin, "X-Forwarded-Proto": "https"}
        ) as response:
            assert response.status == status, origin


async def test_every_response_has_security_headers_a_request_id_and_no_store(client: TestClient) -> None:
    for method, path in addresses(client):
        async with client.request(method, path, allow_redirects=False) as response:
            for name in SECURITY_HEADERS:
                assert name in response.headers, (method, path, name)
            assert len(response.headers["X-Request-Id"]) == 16
            assert "no-store" in response.headers["Cache-Control"] or "/static/" in path, path


async def test_routes_that_are_not_public_require_a_login(client: TestClient) -> None:
    open_to_all = {"/console/login", "/console/login/w", "/api/v1/openapi.json", "/oauth/install", "/oauth/callback"}
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
    for case, token in forged.items():
        with capture_logs() as lines:
            async with client.get("/api/v1/queue", headers={"Authorization": f"Bearer {token}"}) as response:
                problem = await response.json(content_type="application/problem+json")
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer"), case
        assert problem["correlation_id"] == response.headers["X-Request-Id"]
        assert "token_refused" in [line["event"] for line in lines], case
        assert token not in str(lines), case
    good = jwt.encode(claims, key, "HS256")  # proves that the claims are otherwise valid
    async with client.get("/api/v1/queue", headers={"Authorization": f"Bearer {good}"}) as response:
        assert response.status == 200


async def test_cors_preflight_is_answered_only_for_listed_origins(environ: dict[str, str], redis: Redis) -> None:
    overrides = {"CONSOLE_KEY": CONSOLE_KEY, "CONSOLE_ORIGINS": "https://ours.example"}
    async with TestClient(TestServer(create_app(Settings.from_env({**environ, **overrides})))) as client:
        for origin, path, status in (
            ("https://ours.example", "/api/v1/queue", 204),
            ("https://evil.example", "/api/v1/queue", 405),
            ("https://ours.example.evil.example", "/api/v1/queue", 405),
            ("null", "/api/v1/queue", 405),
            ("https://ours.example", "/console/login", 405),
        ):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            async with client.options(path, headers=headers) as response:
                assert response.status == status, (origin, path)
                assert ("Access-Control-Allow-Origin" in response.headers) == (status == 204)


async def test_api_without_redis_is_503_with_retry_after(environ: dict[str, str]) -> None:
    unreachable = {"REDIS_URL": "redis://127.0.0.1:9", "CONSOLE_KEY": CONSOLE_KEY}
    settings = Settings.from_env({**environ, **unreachable})
    headers = {"Authorization": f"Bearer {ApiTokens.from_settings(settings).mint('robot', [Role.VIEWER]).token}"}
    async with (
        TestClient(TestServer(create_app(settings))) as client,
        client.get("/api/v1/queue", headers=headers) as response,
    ):
        assert (response.status, response.content_type) == (503, "application/problem+json")
        assert "Retry-After" in response.headers
