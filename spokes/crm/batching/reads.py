"""Batched reads: each caller gets the properties it asked for of its own object, or that object's error.

A batch read does not find the former ids of merged records, but a single read does (docs/adr/0020), and likewise a
contact's further e-mail addresses: what a batch did not find is read alone before it counts as not found. A single read
of many properties would exceed the length of a URL: it asks for the present id only, and a batch read follows.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from spokes.core.errors import CRMError, CRMUnavailable, ObjectNotFound
from spokes.core.priority import Priority
from spokes.crm.batching.batch_queue import LINGER_S, BatchQueue, in_chunks
from spokes.crm.batching.batch_results import match_results
from spokes.crm.batching.submissions import Batch
from spokes.crm.transport.paced_client import UNCHECKED, ApiRequest, PacedClient
from spokes.crm.transport.paths import Paths, fits_in_url
from spokes.crm.transport.response_json import Json, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

_CASE_INSENSITIVE: Final = frozenset({"email"})  # HubSpot stores addresses in lower case


class ReadQueue(BatchQueue[tuple[str, ...], Json]):
    """Reads objects of one type, by id or by the value of one unique property; payloads are property names."""

    operation = "read"

    def __init__(
        self,
        client: PacedClient,
        portal_id: int,
        paths: Paths,
        object_type: str,
        id_property: str = "",
        *,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(client, portal_id, linger_s=linger_s)
        self._paths = paths
        self._object_type = object_type
        self._id_property = id_property

    def get(
        self, input_id: str, properties: tuple[str, ...], priority: Priority = "interactive"
    ) -> "asyncio.Future[Json]":
        """Read one object; its `properties` hold those asked for, None where HubSpot sent none. Needs no lease."""
        return self.submit(normalise_unique_value(self._id_property, input_id), properties, UNCHECKED[priority])

    def build_request(self, batch: Batch[tuple[str, ...], Json]) -> ApiRequest:
        """Return a batch read of the union of properties."""
        body: dict[str, object] = {
            "properties": self._property_union(batch),
            "propertiesWithHistory": [],
            "inputs": [{"id": input_id} for input_id in batch],
        }
        if self._id_property:
            body["idProperty"] = self._id_property
        return ApiRequest("POST", self._paths.objects(self._object_type, "batch", "read"), body=body)

    async def apply_response(self, batch: Batch[tuple[str, ...], Json], response: "ApiResponse") -> None:
        """Resolve each submission; read alone what the response leaves unknown, and ids it did not find."""
        results = match_results(batch, response.body, self._result_key)
        retried = list(results.unknown)
        async for chunk in in_chunks(results.found):
            for input_id, item in chunk:
                _resolve_all(batch, input_id, item)
        for input_id, error in results.failed.items():
            if isinstance(error, ObjectNotFound) and self._single_read_finds_more():
                retried.append(input_id)
            else:
                await self.apply_refusal(input_id, batch[input_id], error)
        await self.send_again({input_id: batch[input_id] for input_id in retried})

    async def send_again(self, batch: Batch[tuple[str, ...], Json]) -> None:
        """Read each input alone."""
        await asyncio.gather(*(self._read_alone({input_id: batch[input_id]}) for input_id in batch))

    async def _read_alone(self, batch: Batch[tuple[str, ...], Json]) -> None:
        (input_id,) = batch
        try:
            item = await self._single_read(batch, input_id, self._property_union(batch))
        except CRMError as error:
            await self.apply_error(batch, error)
        else:
            _resolve_all(batch, input_id, item)

    async def _single_read(self, batch: Batch[tuple[str, ...], Json], input_id: str, names: list[str]) -> Json:
        """Return one object by the endpoint for single objects, or by its present id if the URL would be too long."""
        fits = fits_in_url(names)
        query: dict[str, str | list[str]] = {"properties": names if fits else ["hs_object_id"]}
        if self._id_property:
            query["idProperty"] = self._id_property
        path = self._paths.objects(self._object_type, input_id)
        response = await self.send_read(batch, ApiRequest("GET", path, query=query))
        item = response.body
        if not item.keys() & {"id", "properties"}:  # no record: its properties would all count as cleared
            raise CRMUnavailable(status=response.status, correlation_id=response.correlation_id)
        if fits:
            return item
        present_id = text_id(item.get("id"))
        body = {"properties": names, "propertiesWithHistory": [], "inputs": [{"id": present_id}]}
        path = self._paths.objects(self._object_type, "batch", "read")
        response = await self.send_read(batch, ApiRequest("POST", path, body=body))
        results = match_results([present_id], response.body, lambda result: text_id(result.get("id")))
        if error := results.failed.get(present_id):
            raise error
        if results.unknown:  # merged since the first of the two calls
            raise CRMUnavailable(status=response.status, correlation_id=response.correlation_id)
        return results.found[present_id]

    def _single_read_finds_more(self) -> bool:
        """Return whether a single read finds objects that a batch read does not find."""
        is_email_of_contact = self._id_property == "email" and self._object_type == "contacts"
        return not self._id_property or is_email_of_contact

    def _property_union(self, batch: Batch[tuple[str, ...], Json]) -> list[str]:
        own: Iterable[str] = (self._id_property,) if self._id_property else ()
        names = (name for submissions in batch.values() for submission in submissions for name in submission.payload)
        return list(dict.fromkeys([*own, *names]))

    def _result_key(self, item: Json) -> str:
        if not self._id_property:
            return text_id(item.get("id"))
        return normalise_unique_value(self._id_property, property_of(item, self._id_property))


def normalise_unique_value(id_property: str, value: str) -> str:
    """Return a unique value in the form in which it is compared."""
    return value.strip().lower() if id_property in _CASE_INSENSITIVE else value


def property_of(item: Json, name: str) -> str:
    """Return a property of an element of a response, empty if it is missing."""
    values = item.get("properties")
    return text_id(values.get(name) if isinstance(values, Mapping) else None)


def _resolve_all(batch: Batch[tuple[str, ...], Json], input_id: str, item: Json) -> None:
    """Resolve each submission of an input with the properties that it asked for."""
    values = properties if isinstance(properties := item.get("properties"), dict) else {}
    for submission in batch[input_id]:
        properties = {name: text_id(values.get(name)) or None for name in submission.payload}
        submission.resolve({**item, "properties": properties})
