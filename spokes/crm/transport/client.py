"""The only user of hubspot-api-client: one attempt per call, and no foreign exception leaves this module.

Only its transport is used, with our paths, so that date versions work too. Its generated models cost ten times the call
they describe, and its retries stay off: our callers decide what is retried.
"""

import asyncio
import copy
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self, cast

import orjson
import urllib3
from hubspot.crm.objects import ApiClient, ApiException, Configuration

from spokes.core.errors import ConfigurationError, CRMError, CRMUnavailable, InvalidRequest
from spokes.crm.transport.connections import BoundedCall, BoundedPool, Response
from spokes.crm.transport.errors.error_mapping import correlation_id_of, error_from_response
from spokes.crm.transport.paced_client import Body, Query
from spokes.crm.transport.response_json import Json, elements, text_id

_GRACE_S: Final = 2.0  # beyond a call's time-out, for a server that sends its response byte by byte


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A 2xx response: header names in lower case, `data` None if HubSpot sent no body."""

    status: int
    data: Json | None
    headers: Mapping[str, str]
    correlation_id: str

    @property
    def body(self) -> Json:
        """The JSON object, empty if there was none."""
        return self.data or {}


class HubSpotClient:
    """Calls HubSpot from threads of its own; `close` ends them."""

    def __init__(self, *, api_url: str, token: str, timeout_s: float, concurrency: int = 32) -> None:
        """Open one transport.

        Args:
            timeout_s: seconds for one call, from connecting to the last byte.
            concurrency: threads and connections, which limit the calls in flight.

        Raises:
            ConfigurationError: the token holds a character that no header may hold.
        """
        if not all("!" <= character <= "~" for character in token):
            raise ConfigurationError(["HUBSPOT_ACCESS_TOKEN holds a character that no token has: copy it again."])
        self._timeout_s = timeout_s
        self._token = token
        configuration = Configuration(host=api_url.rstrip("/"))
        configuration.connection_pool_maxsize = concurrency
        configuration.retries = urllib3.Retry(0, redirect=False)
        self._api = ApiClient(configuration)
        self._api.user_agent = "spokes"
        self._api.rest_client.pool_manager = BoundedPool(self._api.rest_client.pool_manager)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="hubspot")

    def with_token(self, token: str) -> Self:
        """Return a client with another token on the same threads and connections; only the original is closed."""
        client = copy.copy(self)
        client._token = token  # noqa: SLF001 - an instance of this class
        return client

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body | None = None,
    ) -> ApiResponse:
        """Make one call, one attempt.

        Args:
            path: from `spokes.crm.transport.paths`, already quoted.

        Raises:
            CRMError: the call failed, for any reason. On cancellation the call goes on in its thread.
        """
        loop, running = asyncio.get_running_loop(), BoundedCall(self._timeout_s)
        try:
            async with asyncio.timeout(self._timeout_s + _GRACE_S):
                return await loop.run_in_executor(
                    self._threads, self._call_in_thread, running, method, path, query, body
                )
        except (TimeoutError, RuntimeError):  # RuntimeError: the threads have ended, the process shuts down
            running.cut()  # otherwise a server that sends its response byte by byte holds the thread
            raise CRMUnavailable from None
        except asyncio.CancelledError:
            loop.call_later(self._timeout_s + _GRACE_S, running.cut)
            raise

    async def token_info(self, path: str) -> ApiResponse:
        """Read portal and scopes of the token; this endpoint takes the token in the body too."""
        return await self.call("POST", path, body={"tokenKey": self._token})

    async def close(self) -> None:
        """Wait for the calls in flight, end the threads and close the connections."""
        # In a thread of our own: a handler may have shut down the event loop's executor.
        closing = ThreadPoolExecutor(1, thread_name_prefix="hubspot-close")
        await asyncio.get_running_loop().run_in_executor(closing, self._threads.shutdown)
        closing.shutdown(wait=False)
        self._api.rest_client.pool_manager.clear()

    def _call_in_thread(
        self, call: BoundedCall, method: str, path: str, query: Query | None, body: Body | None
    ) -> ApiResponse:
        call.begin()
        try:
            response = self._send(method, path, query, body)
            raw = response.read()
        except Exception as error:  # noqa: BLE001 - the boundary: nothing foreign may pass
            failure = _map_exception(error, _ids_in_request(path, body))
        else:
            return _parse_response(response.status, _lower_case_names(response.headers), raw)
        raise failure  # outside `except`: the foreign error may quote what we sent, and must not become its context

    def _send(self, method: str, path: str, query: Query | None, body: Body | None) -> Response:
        # `ApiClient.call_api` would copy the body value by value, for models that we do not use: twice the JSON's cost.
        headers = {**self._api.default_headers, "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        response = self._api.rest_client.request(
            method,
            self._api.configuration.host + path,
            query_params=_query_pairs(query),
            headers=headers,
            body=body,
            _preload_content=False,
            _request_timeout=self._timeout_s,
        )
        return cast("Response", response)


def _query_pairs(query: Query | None) -> list[tuple[str, str]]:
    """Return query parameters as pairs; several values of one are joined by commas, as HubSpot reads them."""
    return [(name, value if isinstance(value, str) else ",".join(value)) for name, value in (query or {}).items()]


def _parse_response(status: int, headers: Mapping[str, str], raw: bytes) -> ApiResponse:
    try:
        data = orjson.loads(raw) if raw.strip() else None
    except orjson.JSONDecodeError:
        raise CRMUnavailable(status=status, correlation_id=correlation_id_of(headers, {})) from None
    if data is not None and not isinstance(data, dict):
        raise CRMUnavailable(status=status, correlation_id=correlation_id_of(headers, {}))
    return ApiResponse(status, data, headers, correlation_id_of(headers, data or {}))


def _ids_in_request(path: str, body: Body | None) -> list[str]:
    """Return the ids of the objects that a request is about."""
    inputs = elements(body, "inputs") if isinstance(body, Mapping) else []
    return [*filter(str.isdecimal, path.split("/")), *(text_id(item.get("id")) for item in inputs)]


def _map_exception(error: Exception, own_ids: Collection[str] = ()) -> CRMError:
    """Return our exception for one that the transport raised; `own_ids` are the ids in the request."""
    if isinstance(error, CRMError):
        return error
    if _is_api_exception(error):
        return _map_api_exception(error, own_ids)
    if isinstance(error, urllib3.exceptions.HTTPError) and not isinstance(error, urllib3.exceptions.LocationValueError):
        return CRMUnavailable()
    # A URL or body that cannot be sent was never sent; anything else went wrong on the way.
    return InvalidRequest() if isinstance(error, TypeError | ValueError) else CRMUnavailable()


def _map_api_exception(error: Any, own_ids: Collection[str]) -> CRMError:
    """Return our exception for an ApiException; it has no status if TLS failed."""
    if not error.status:
        return CRMUnavailable()
    body = error.body if isinstance(error.body, bytes) else b""
    return error_from_response(error.status, _lower_case_names(error.headers or {}), body, datetime.now(UTC), own_ids)


def _is_api_exception(error: BaseException | None) -> bool:
    """Return whether it is an ApiException: each package of hubspot-api-client has its own, without a common base."""
    return isinstance(error, ApiException) or any(
        base.__name__ == "ApiException" and base.__module__.startswith("hubspot.") for base in type(error).__mro__
    )


def _lower_case_names(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
