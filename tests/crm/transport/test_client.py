"""The client over real HTTP: one attempt per call, and every failure as one of our errors."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from spokes.core.errors import (
    ConfigurationError,
    Conflict,
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    NotAuthorized,
    NotPermitted,
    ObjectLocked,
    ObjectNotFound,
    PortalMoving,
    RateLimited,
)
from spokes.crm.transport.client import HubSpotClient
from tests.support.hubspot.scripted_hubspot import RecordedRequest, ScriptedHubSpot, json_response

TOKEN = "pat-eu1-00000000-1111-2222-3333-444444444444"
PERSONAL = "ada@example.org"


@asynccontextmanager
async def client_of(url: str, *, timeout_s: float = 2.0, concurrency: int = 4) -> AsyncIterator[HubSpotClient]:
    client = HubSpotClient(api_url=url, token=TOKEN, timeout_s=timeout_s, concurrency=concurrency)
    yield client
    await client.close()


async def failure(respond: Callable[[RecordedRequest], web.StreamResponse], **options: float) -> CRMError:
    """Return the error of a call that HubSpot answers with `respond`."""
    async with ScriptedHubSpot(respond) as hubspot, client_of(hubspot.url, **options) as client:
        with pytest.raises(CRMError) as raised:
            await client.call("POST", "/crm/objects/2026-09/contacts", body={"properties": {"email": PERSONAL}})
    assert len(hubspot.requests) == 1
    return raised.value


async def test_response_is_parsed_and_its_header_names_are_in_lower_case() -> None:
    created = json_response({"id": "1"}, 201, X_HubSpot_Correlation_Id="abc-1")
    async with ScriptedHubSpot(lambda _: created) as hubspot, client_of(hubspot.url + "/") as client:
        response = await client.call("POST", "/crm/objects/2026-09/notes", body={"properties": {}})

    assert (response.status, response.data, response.correlation_id) == (201, {"id": "1"}, "abc-1")
    assert response.headers["x-hubspot-correlation-id"] == "abc-1"


async def test_response_without_body_has_no_data() -> None:
    async with ScriptedHubSpot(lambda _: web.Response(status=204)) as hubspot, client_of(hubspot.url) as client:
        response = await client.call("DELETE", "/crm/objects/2026-09/contacts/1")

    assert (response.status, response.data, response.body) == (204, None, {})


async def test_several_values_of_a_query_parameter_are_joined_by_commas() -> None:
    async with ScriptedHubSpot(lambda _: json_response({})) as hubspot, client_of(hubspot.url) as client:
        await client.call("GET", "/crm/objects/2026-09/contacts", query={"properties": ("a", "b"), "limit": "100"})

    assert hubspot.requests[0].query == {"properties": "a,b", "limit": "100"}


async def test_connections_are_reused() -> None:
    ports: set[object] = set()

    def respond(request: RecordedRequest) -> web.Response:
        ports.add(request.raw.transport.get_extra_info("peername"))  # type: ignore[union-attr]
        return json_response({})

    async with ScriptedHubSpot(respond) as hubspot, client_of(hubspot.url, concurrency=1) as client:
        for _ in range(5):
            await client.call("GET", "/crm/objects/2026-09/contacts")

    assert len(ports) == 1


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, InvalidRequest), (401, NotAuthorized), (403, NotPermitted), (404, ObjectNotFound), (405, InvalidRequest),
        (408, CRMUnavailable), (409, Conflict), (414, InvalidRequest), (423, ObjectLocked), (429, RateLimited),
        (477, PortalMoving), (500, CRMUnavailable), (502, CRMUnavailable), (503, CRMUnavailable),
        (504, CRMUnavailable), (524, CRMUnavailable),
    ],
)  # fmt: skip
async def test_every_status_is_one_of_our_errors(status: int, error_class: type[CRMError]) -> None:
    body = {
        "status": "error", "category": "SOME_CATEGORY", "correlationId": "c-1", "message": f"bad value {PERSONAL}",
    }  # fmt: skip

    error = await failure(lambda _: json_response(body, status))

    assert (error_class, status, "SOME_CATEGORY", "c-1") == (
        type(error),
        error.status,
        error.category,
        error.correlation_id,
    )
    assert PERSONAL not in f"{error!r} {error} {error.__dict__} {error.__cause__!r} {error.__context__!r}"


@pytest.mark.parametrize("status", [400, 404, 500, 503])
@pytest.mark.parametrize("body", [b"<html><h1>Bad Gateway</h1></html>", b"", b"\xff\xfe\x00caf\xe9", b'["a"]', b"{"])
async def test_error_without_json_body_keeps_its_status(status: int, body: bytes) -> None:
    error = await failure(lambda _: web.Response(body=body, status=status, content_type="text/html"))

    assert (status, "", "") == (error.status, error.category, error.correlation_id)


@pytest.mark.parametrize("body", [b"<html>", b'{"id":', b"\xff\xfe", b'["a"]', b"1"])
async def test_success_without_json_object_is_an_error(body: bytes) -> None:
    error = await failure(lambda _: web.Response(body=body, status=200, content_type="application/json"))

    assert (CRMUnavailable, 200) == (type(error), error.status)


async def test_malformed_fields_of_an_error_are_dropped() -> None:
    body = {"category": f"for {PERSONAL}", "correlationId": {"x": 1}, "errors": "none", "context": [PERSONAL]}

    error = await failure(lambda _: json_response(body, 403))

    assert (error.category, error.correlation_id, error.scopes) == ("", "", ())  # type: ignore[attr-defined]


async def test_missing_scopes_are_named() -> None:
    body = {
        "category": "MISSING_SCOPES",
        "errors": [{"context": {"requiredGranularScopes": ["crm.objects.contacts.write", PERSONAL]}}],
    }

    error = await failure(lambda _: json_response(body, 403))

    assert isinstance(error, NotPermitted)
    assert error.scopes == ("crm.objects.contacts.write",)


async def test_conflict_names_the_existing_record() -> None:
    error = await failure(lambda _: json_response({"message": "Contact already exists. Existing ID: 4711"}, 409))

    assert isinstance(error, Conflict)
    assert error.existing_id == "4711"


@pytest.mark.parametrize(
    ("body", "policy"),
    [
        ({"policyName": "DAILY"}, "DAILY"),
        ({"message": "You have reached your ten_secondly_rolling limit."}, "TEN_SECONDLY_ROLLING"),
        ({}, ""),
    ],
)
async def test_rate_limit_names_its_policy(body: dict[str, str], policy: str) -> None:
    error = await failure(lambda _: json_response(body, 429))

    assert isinstance(error, RateLimited)
    assert error.policy == policy


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("1.5", 1.5), ("-3", None), ("soon", None), ("nan", None)])
async def test_retry_after_is_read_in_seconds(text: str, seconds: float | None) -> None:
    error = await failure(lambda _: json_response({}, 503, Retry_After=text))

    assert isinstance(error, CRMUnavailable)
    assert error.retry_after_s == seconds


async def test_retry_after_is_read_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    error = await failure(lambda _: json_response({}, 477, Retry_After=date))

    assert isinstance(error, PortalMoving)
    assert error.retry_after_s == pytest.approx(60, abs=20)


async def test_refused_connection_is_unavailable() -> None:
    with socket.socket() as bound_socket:
        bound_socket.bind(("127.0.0.1", 0))
        async with client_of(f"http://127.0.0.1:{bound_socket.getsockname()[1]}") as client:
            with pytest.raises(CRMUnavailable) as raised:
                await client.call("GET", "/account-info/2026-09/details")

    assert raised.value.status == 0


async def test_broken_connection_is_unavailable() -> None:
    def respond(request: RecordedRequest) -> web.StreamResponse:
        request.raw.transport.abort()  # type: ignore[union-attr]
        return web.Response()

    assert isinstance(await failure(respond), CRMUnavailable)


async def test_truncated_body_is_unavailable() -> None:
    async def respond(request: RecordedRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request.raw)
        await response.write(b'{"id":')
        request.raw.transport.abort()  # type: ignore[union-attr]
        return response

    assert isinstance(await failure(respond), CRMUnavailable)  # type: ignore[arg-type]


async def test_silence_is_unavailable_after_the_time_out() -> None:
    async def respond(_: RecordedRequest) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    error = await failure(respond, timeout_s=0.2)  # type: ignore[arg-type]

    assert (CRMUnavailable, 0) == (type(error), error.status)


async def test_slow_response_is_unavailable_after_the_time_out() -> None:
    async def respond(request: RecordedRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request.raw)
        for _ in range(400):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    started = asyncio.get_running_loop().time()
    error = await failure(respond, timeout_s=0.3)  # type: ignore[arg-type]

    assert isinstance(error, CRMUnavailable)
    assert asyncio.get_running_loop().time() - started < 10


async def test_tls_failure_is_unavailable() -> None:
    async with ScriptedHubSpot(lambda _: json_response({})) as plain:
        url = plain.url.replace("http://", "https://")
        async with client_of(url) as client:
            with pytest.raises(CRMUnavailable):
                await client.call("GET", "/")


async def test_invalid_url_is_an_invalid_request() -> None:
    async with client_of("http://") as client:
        with pytest.raises(InvalidRequest):
            await client.call("GET", "/")


async def test_unserialisable_body_is_an_invalid_request() -> None:
    async with ScriptedHubSpot(lambda _: json_response({})) as hubspot, client_of(hubspot.url) as client:
        with pytest.raises(InvalidRequest):
            await client.call("POST", "/", body={"properties": {("a", "b"): "1"}})


async def test_closed_client_is_unavailable() -> None:
    client = HubSpotClient(api_url="http://127.0.0.1:1", token=TOKEN, timeout_s=1)
    await client.close()

    with pytest.raises(CRMUnavailable):
        await client.call("GET", "/")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect_is_not_followed(status: int) -> None:
    async with ScriptedHubSpot(lambda _: json_response({})) as elsewhere:
        error = await failure(lambda _: web.Response(status=status, headers={"Location": f"{elsewhere.url}/crm"}))

    assert isinstance(error, CRMUnavailable)
    assert elsewhere.requests == []


async def test_token_is_sent_in_the_header_only() -> None:
    async with ScriptedHubSpot(lambda _: json_response({})) as hubspot, client_of(hubspot.url) as client:
        await client.call("POST", "/crm/objects/2026-09/contacts/batch/read", body={"inputs": []})

    (request,) = hubspot.requests
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in f"{request.path} {request.query} {request.body}"


async def test_token_info_is_requested_from_the_api_url() -> None:
    async with ScriptedHubSpot(lambda _: json_response({"hubId": 5})) as hubspot, client_of(hubspot.url) as client:
        response = await client.token_info("/oauth/v2/private-apps/get/access-token-info")

    assert response.body == {"hubId": 5}
    assert hubspot.requests[0].body == {"tokenKey": TOKEN}


def test_token_that_no_header_may_hold_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError) as raised:
        HubSpotClient(api_url="http://127.0.0.1:1", token="pat-eu1\n-x", timeout_s=1)

    assert "pat-eu1" not in str(raised.value)


async def test_cancelled_call_goes_on_and_does_not_affect_others() -> None:
    async def respond(_: RecordedRequest) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return json_response({})

    async with ScriptedHubSpot(respond) as hubspot, client_of(hubspot.url, concurrency=2) as client:
        cancelled = asyncio.create_task(client.call("GET", "/a"))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        response = await client.call("GET", "/b")

    assert response.status == 200
    assert cancelled.cancelled()


def test_handlers_load_without_hubspots_client() -> None:
    code = "import sys, handlers, spokes.crm.objects, spokes.crm.services; print('hubspot' in sys.modules)"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "False"


async def test_apiexceptions_of_every_hubspot_package_are_recognised() -> None:
    from hubspot.crm.companies.exceptions import NotFoundException  # noqa: PLC0415 - loads a package for one test

    from spokes.crm.transport.client import _map_exception  # noqa: PLC0415 - its only use here

    error = _map_exception(NotFoundException(status=404, reason="x"))

    assert isinstance(error, ObjectNotFound)
