"""What the simulator's further APIs share: the type of an endpoint, the JSON object of a body, the response."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TypeAlias

import orjson
from aiohttp import web

from spokes.simulator.api.request_log import LoggedCall
from spokes.simulator.errors import JsonObject, invalid_request

Endpoint: TypeAlias = Callable[[web.Request, LoggedCall], Awaitable[web.Response]]


async def json_object(request: web.Request) -> JsonObject:
    """Return the JSON object of the body.

    Raises:
        HubSpotError: 400.
    """
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise invalid_request("Invalid input JSON") from None
    if not isinstance(body, dict):
        raise invalid_request("Invalid input JSON: an object was expected")
    return body


def json_response(body: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a response with a JSON body, whose keys may be numbers."""
    content = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(body=content, status=status, content_type="application/json", headers=headers)
