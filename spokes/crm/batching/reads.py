"""Reads that share a batch. Rule: each caller gets its own properties of its own object, or its own error.

A batch read does not know the previous ids of merged records and a single read does (docs/adr/0020): so an id that a
batch did not find is asked for once more, singly, before it counts as not found.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from spokes.core.errors import CRMError, ObjectNotFound
from spokes.crm.batching.batch_queue import LINGER_S, Batch, BatchQueue
from spokes.crm.batching.batch_results import match_results
from spokes.crm.transport.paced_client import ApiRequest, PacedClient
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.rate_budget import Priority
from spokes.crm.transport.response_json import Json, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

_CASE_INSENSITIVE: Final = frozenset({"email"})  # HubSpot keeps addresses in lower case


class ReadQueue(BatchQueue[tuple[str, ...], Json]):
    """Reads objects of one type, by id or by the value of one unique property."""

    def __init__(
        self,
        calls: PacedClient,
        portal_id: int,
        paths: Paths,
        object_type: str,
        id_property: str = "",
        *,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(calls, portal_id, linger_s=linger_s)
        self._paths = paths
        self._type = object_type
        self._id_property = id_property

    async def get(self, input_id: str, properties: tuple[str, ...], priority: Priority = "interactive") -> Json:
        """Read one object; its `properties` hold those asked for, where HubSpot sent them."""
        return await self.submit(normalise_unique_value(self._id_property, input_id), properties, priority)

    def build_request(self, group: Batch[tuple[str, ...], Json]) -> ApiRequest:
        """One batch read with the union of properties."""
        body: dict[str, object] = {
            "properties": self._property_union(group),
            "propertiesWithHistory": [],
            "inputs": [{"id": input_id} for input_id in group],
        }
        if self._id_property:
            body["idProperty"] = self._id_property
        return ApiRequest("POST", self._paths.objects(self._type, "batch", "read"), body=body)

    async def apply_response(self, group: Batch[tuple[str, ...], Json], answer: "ApiResponse") -> None:
        """Give each its own; what the answer leaves open, or may not know by its id, is asked for singly."""
        told = match_results(group, answer.body, self._result_key)
        again = list(told.unknown)
        for input_id, item in told.found.items():
            _resolve_all(group, input_id, item)
        for input_id, error in told.failed.items():
            if isinstance(error, ObjectNotFound) and not self._id_property:
                again.append(input_id)
            else:
                await self.apply_error({input_id: group[input_id]}, error)
        await asyncio.gather(*(self._read_alone({input_id: group[input_id]}) for input_id in again))

    async def _read_alone(self, group: Batch[tuple[str, ...], Json]) -> None:
        (input_id,) = group
        query = {"properties": self._property_union(group)}
        if self._id_property:
            query["idProperty"] = [self._id_property]
        try:
            path = self._paths.objects(self._type, input_id)
            answer = await self.send_read(group, ApiRequest("GET", path, query=query))
        except CRMError as error:
            await self.apply_error(group, error)
        else:
            _resolve_all(group, input_id, answer.body)

    def _property_union(self, group: Batch[tuple[str, ...], Json]) -> list[str]:
        own: Iterable[str] = (self._id_property,) if self._id_property else ()
        wanted = (name for asks in group.values() for ask in asks for name in ask.want)
        return list(dict.fromkeys([*own, *wanted]))

    def _result_key(self, item: Json) -> str:
        if not self._id_property:
            return text_id(item.get("id"))
        return normalise_unique_value(self._id_property, property_of(item, self._id_property))


def normalise_unique_value(id_property: str, value: str) -> str:
    """Return the one form in which a unique value is compared."""
    return value.strip().lower() if id_property in _CASE_INSENSITIVE else value


def property_of(item: Json, name: str) -> str:
    """A property in an element of an answer, empty when it is not there."""
    values = item.get("properties")
    return text_id(values.get(name) if isinstance(values, Mapping) else None)


def _resolve_all(group: Batch[tuple[str, ...], Json], input_id: str, item: Json) -> None:
    """Answer each asker with what it asked for, where HubSpot sent it."""
    for ask in group[input_id]:
        ask.resolve({**item, "properties": {name: property_of(item, name) or None for name in ask.want}})
