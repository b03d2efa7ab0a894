"""One call of the CRM API as an endpoint sees it, and its answer. Rule: an endpoint is a plain function.

def read_object(call: Call) -> Answer
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
    """Status and JSON body; no body at all when None."""

    status: int
    body: JsonObject | None = None


NO_CONTENT = EndpointResponse(HTTPStatus.NO_CONTENT)


class Call:
    """A call that may go ahead: its portal, the parts of its path, its query, its body, its line in the log."""

    __slots__ = ("_body", "_parts", "log", "partial_status_is_ok", "portal", "query")

    def __init__(
        self, portal: Portal, parts: Mapping[str, str], query: Mapping[str, str], body: bytes, log: LoggedCall
    ) -> None:
        self.portal = portal
        self.query = query
        self.log = log
        # From 2026-09 on a partial failure is told in the body alone, before that by status 207 as well.
        self.partial_status_is_ok = "/2026-09/" in log.path
        self._parts = parts
        self._body = body

    @property
    def source(self) -> ChangeSource:
        """How HubSpot marks what this call changes."""
        return self.portal.config.own_source

    def path_part(self, name: str) -> str:
        """A part of the path by the name the endpoint gave it."""
        return self._parts[name]

    def object_type(self, name: str = "type") -> ObjectType:
        """The object type that a part of the path names.

        Raises:
            HubSpotError: 400.
        """
        return self.portal.crm.types.resolve(self._parts[name])

    def json(self) -> JsonObject:
        """The body, an object.

        Raises:
            HubSpotError: 400.
        """
        body = self.json_value()
        if not isinstance(body, dict):
            raise invalid_request("Invalid input JSON: an object was expected")
        return body

    def json_value(self) -> object:
        """The body, any JSON.

        Raises:
            HubSpotError: 400.
        """
        try:
            return cast("object", orjson.loads(self._body))
        except orjson.JSONDecodeError:
            raise invalid_request("Invalid input JSON") from None

    def inputs(self, limit: int) -> list[JsonObject]:
        """The `inputs` of a batch.

        Raises:
            HubSpotError: 400, there are none or too many.
        """
        body = self.json()
        if "inputs" not in body:
            raise invalid_request("Some required fields were not set: [inputs]")
        inputs = objects_member(body, "inputs")
        if len(inputs) > limit:
            raise invalid_request(f"The maximum number of inputs supported in a batch request is {limit}.")
        return inputs

    def list_parameter(self, parameter: str) -> list[str]:
        """A comma-separated query parameter."""
        return [name for name in self.query.get(parameter, "").split(",") if name]

    def body_size(self) -> int:
        """Characters in the body."""
        return len(self._body.decode(errors="replace"))

    def log_objects(self, *ids: str) -> None:
        """Note in the log which objects the call is about."""
        self.log.object_ids.extend(ids)

    def log_write(self, record: CrmRecord, written: Mapping[str, object]) -> None:
        """Note in the log what the call wrote to a record."""
        self.log.writes.append(LoggedWrite(record.id, {name: str(value) for name, value in written.items()}))


EndpointFunction: TypeAlias = Callable[[Call], EndpointResponse]


class Endpoint(NamedTuple):
    """One thing the API does: its paths (one per version of the API), its limit, and whether it writes.

    `type_parts` name the parts of the path whose object types decide which scopes are needed.
    """

    method: str
    paths: tuple[str, ...]
    respond: EndpointFunction
    writes: bool = False
    meter: Meter = Meter.ORDINARY
    type_parts: tuple[str, ...] = ()
    anonymous: bool = False
