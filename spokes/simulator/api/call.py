"""One call of the CRM API as an endpoint sees it, and its response. An endpoint is a plain function.

def read_object(call: Call) -> EndpointResponse
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, TypeAlias, cast

import orjson

from spokes.simulator.api.parameters import objects_member
from spokes.simulator.api.request_log import LoggedCall, LoggedWrite
from spokes.simulator.changes import ChangeSource
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.errors import JsonObject, invalid_request
from spokes.simulator.portal import Portal
from spokes.simulator.rate_limits import Meter


class EndpointResponse(NamedTuple):
    """Status and JSON body; None means no body."""

    status: int
    body: JsonObject | None = None


NO_CONTENT = EndpointResponse(HTTPStatus.NO_CONTENT)


class Call:
    """An authenticated call within its limits: portal, path parts, query, body and log entry."""

    __slots__ = ("_body", "_parts", "log", "partial_status_is_ok", "portal", "query")

    def __init__(
        self, portal: Portal, parts: Mapping[str, str], query: Mapping[str, str], body: bytes, log: LoggedCall
    ) -> None:
        self.portal = portal
        self.query = query
        self.log = log
        # Since 2026-09 only the body reports a partial failure; earlier versions also return status 207.
        self.partial_status_is_ok = "/2026-09/" in log.path
        self._parts = parts
        self._body = body

    @property
    def source(self) -> ChangeSource:
        """The source HubSpot records for changes by this call."""
        return self.portal.config.own_source

    def path_part(self, name: str) -> str:
        """Return a part of the path by its placeholder name."""
        return self._parts[name]

    def object_type(self, name: str = "type") -> ObjectType:
        """Return the object type in a part of the path.

        Raises:
            HubSpotError: 400.
        """
        return self.portal.crm.types.resolve(self._parts[name])

    def json(self) -> JsonObject:
        """Return the body, a JSON object.

        Raises:
            HubSpotError: 400.
        """
        body = self.json_value()
        if not isinstance(body, dict):
            raise invalid_request("Invalid input JSON: an object was expected")
        return body

    def json_value(self) -> object:
        """Return the body, any JSON value.

        Raises:
            HubSpotError: 400.
        """
        try:
            return cast("object", orjson.loads(self._body))
        except orjson.JSONDecodeError:
            raise invalid_request("Invalid input JSON") from None

    def inputs(self, limit: int) -> list[JsonObject]:
        """Return the `inputs` of a batch.

        Raises:
            HubSpotError: 400, `inputs` is missing or longer than `limit`.
        """
        body = self.json()
        if "inputs" not in body:
            raise invalid_request("Some required fields were not set: [inputs]")
        inputs = objects_member(body, "inputs")
        if len(inputs) > limit:
            raise invalid_request(f"The maximum number of inputs supported in a batch request is {limit}.")
        return inputs

    def list_parameter(self, parameter: str) -> list[str]:
        """Return the items of a comma-separated query parameter."""
        return [name for name in self.query.get(parameter, "").split(",") if name]

    def body_size(self) -> int:
        """Return the number of characters in the body."""
        return len(self._body.decode(errors="replace"))

    def log_objects(self, *ids: str) -> None:
        """Add the ids of the objects that the call addresses to its log entry."""
        self.log.object_ids.extend(ids)

    def log_write(self, record: CrmRecord, written: Mapping[str, object]) -> None:
        """Add the properties that the call wrote to a record to its log entry."""
        self.log.writes.append(LoggedWrite(record.id, {name: str(value) for name, value in written.items()}))


EndpointFunction: TypeAlias = Callable[[Call], EndpointResponse]


class Endpoint(NamedTuple):
    """One endpoint: its paths (one per version of the API), its limit, and whether it writes.

    `type_parts` are the path parts whose object types determine the required scopes.
    """

    method: str
    paths: tuple[str, ...]
    respond: EndpointFunction
    writes: bool = False
    meter: Meter = Meter.ORDINARY
    type_parts: tuple[str, ...] = ()
    anonymous: bool = False
