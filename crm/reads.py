"""Reads that share a batch. Rule: each caller gets its own properties of its own object, or its own error."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from core.errors import CRMError
from crm.batches import Outcomes, outcomes, text_id
from crm.calls import Calls, Request
from crm.coalescer import LINGER_S, Group, Lane
from crm.faults import Json
from crm.paths import Paths

if TYPE_CHECKING:
    from crm.client import Answer

_CASELESS: Final = frozenset({"email"})  # HubSpot keeps addresses in lower case


class ReadLane(Lane[tuple[str, ...], Json]):
    """Reads objects of one type, by id or by the value of one unique property."""

    def __init__(
        self,
        calls: Calls,
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

    async def get(self, input_id: str, properties: tuple[str, ...]) -> Json:
        """Read one object; its `properties` hold those asked for, where HubSpot sent them."""
        item = await self.join(self._same(input_id), properties)
        values = item.get("properties")
        given = values if isinstance(values, Mapping) else {}
        return {**item, "properties": {name: given.get(name) for name in properties}}

    def compose(self, group: Group[tuple[str, ...], Json]) -> Request:
        """One batch read with the union of properties."""
        body: dict[str, object] = {
            "properties": self._union(group),
            "propertiesWithHistory": [],
            "inputs": [{"id": input_id} for input_id in group],
        }
        if self._id_property:
            body["idProperty"] = self._id_property
        return Request("POST", self._paths.objects(self._type, "batch", "read"), body=body)

    async def settle(self, group: Group[tuple[str, ...], Json], answer: "Answer") -> None:
        """Give each its own; what the answer leaves open is asked for singly."""
        told = outcomes(group, answer.body, self._key)
        _give(group, told)
        await asyncio.gather(*(self._single({i: group[i]}) for i in told.unclear))

    async def _single(self, group: Group[tuple[str, ...], Json]) -> None:
        (input_id,) = group
        query = {"properties": self._union(group)}
        if self._id_property:
            query["idProperty"] = [self._id_property]
        request = Request("GET", self._paths.objects(self._type, input_id), query=query)
        try:
            answer = await self.calls.send(self.portal_id, request)
        except CRMError as error:
            await self.failed(group, error)
        else:
            _give(group, Outcomes({input_id: answer.body}, {}, ()))

    def _union(self, group: Group[tuple[str, ...], Json]) -> list[str]:
        own: Iterable[str] = (self._id_property,) if self._id_property else ()
        wanted = (name for asks in group.values() for ask in asks for name in ask.want)
        return list(dict.fromkeys([*own, *wanted]))

    def _key(self, item: Json) -> str:
        if not self._id_property:
            return text_id(item.get("id"))
        values = item.get("properties")
        return self._same(text_id(values.get(self._id_property) if isinstance(values, Mapping) else None))

    def _same(self, input_id: str) -> str:
        return input_id.strip().lower() if self._id_property in _CASELESS else input_id


def _give(group: Group[tuple[str, ...], Json], told: Outcomes) -> None:
    for input_id, asks in group.items():
        for ask in asks:
            if input_id in told.found:
                ask.give(told.found[input_id])
            elif input_id in told.refused:
                ask.fail(told.refused[input_id])
