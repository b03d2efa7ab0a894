"""Types of the portal's properties, read when a value's meaning depends on them: a midnight in another zone than UTC.

`datetime(2026, 3, 5, tzinfo=Berlin)` is the day 2026-03-05 in a date property and an instant in a datetime property.
The schema of a type is read at most once an hour. If HubSpot does not list the property, the write is refused: pass a
`date`, or the datetime in UTC. Source: HubSpot's docs, "Properties API".
"""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from spokes.core.errors import InvalidRequest, PermanentCRMError
from spokes.crm.object_types import plural
from spokes.crm.transport.paced_client import ApiRequest, PacedClient, SendContext
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.response_json import elements, text_id
from spokes.crm.values.property_values import Value, is_midnight_elsewhere

DATE_OR_TIME_UNKNOWN: Final = "DATE_OR_TIME_UNKNOWN"
_FRESH_S: Final = 3600.0
_KNOWN_INSTANTS: Final = frozenset({"hs_timestamp"})  # of every activity


class _Schema(NamedTuple):
    """The types of a type's properties by name, as HubSpot names them, and when they were read (monotonic)."""

    types: Mapping[str, str]
    read_at: float


class PropertySchemas:
    """The schemas of all portals that a process writes to."""

    def __init__(self, client: PacedClient, paths: Paths) -> None:
        self._client = client
        self._paths = paths
        self._schemas: dict[tuple[int, str], _Schema] = {}

    async def with_own_days(
        self, portal_id: int, object_type: str, properties: Mapping[str, Value], context: SendContext
    ) -> Mapping[str, Value]:
        """Return properties with the day in place of each midnight that is written to a date property.

        Raises:
            InvalidRequest: HubSpot does not say whether the property holds a day or an instant; nothing was written.
            TransientCRMError: HubSpot cannot answer now.
        """
        days: dict[str, Value] = {}
        for name, value in properties.items():
            if name in _KNOWN_INSTANTS or not isinstance(value, datetime) or not is_midnight_elsewhere(value):
                continue
            property_type = await self._property_type(portal_id, plural(object_type), name, context)
            if not property_type:
                raise InvalidRequest(category=DATE_OR_TIME_UNKNOWN, service=plural(object_type), property_name=name)
            if property_type == "date":
                days[name] = value.date()
        return {**properties, **days}

    async def _property_type(self, portal_id: int, service: str, name: str, context: SendContext) -> str:
        schema = self._schemas.get((portal_id, service))
        if schema is None or name not in schema.types or time.monotonic() - schema.read_at > _FRESH_S:
            types = await self._read_types(portal_id, service, context)
            schema = self._schemas[portal_id, service] = _Schema(types, time.monotonic())
        return schema.types.get(name, "")

    async def _read_types(self, portal_id: int, service: str, context: SendContext) -> Mapping[str, str]:
        request = ApiRequest("GET", self._paths.properties(service))
        try:
            response = await self._client.send(portal_id, request, context=context)
        except PermanentCRMError:
            return {}
        return {text_id(item.get("name")): text_id(item.get("type")) for item in elements(response.body, "results")}
