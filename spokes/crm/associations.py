"""Associations between records. Rule: ids are text; types go by any of their names; no label is lost unasked.

Source: HubSpot's docs, "Associate records": a labelled PUT replaces the labels that are there.
"""

from spokes.crm.access import Access
from spokes.crm.association_types import label
from spokes.crm.batching.association_reads import Associated, Label, label_of
from spokes.crm.object_types import plural
from spokes.crm.results import Done
from spokes.crm.transport.paced_client import Request
from spokes.crm.transport.response_json import elements
from spokes.crm.transport.waits import Kind

__all__ = ["Associated", "Associations", "Label"]


class Associations:
    """The associations that one handler may see and change."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._paths = access.exchange.paths

    async def list(self, from_type: str, from_id: str, to_type: str) -> tuple[str, ...]:
        """Return the ids of `to_type` that an object is associated with, by any label."""
        return tuple(end.id for end in await self.list_labelled(from_type, from_id, to_type))

    async def list_labelled(self, from_type: str, from_id: str, to_type: str) -> tuple[Associated, ...]:
        """Return the objects of `to_type` that an object is associated with, each with all its labels."""
        self._access.require("associations.list")
        return await self._ends(from_type, from_id, to_type)

    async def labels(self, from_type: str, to_type: str) -> tuple[Label, ...]:
        """Return every label that the portal has from one type to another, the plain association among them."""
        self._access.require("associations.list")
        answer = await self._access.send(Request("GET", self._paths.associations(from_type, to_type, "labels")))
        return tuple(map(label_of, elements(answer.body, "results")))

    async def associate(self, from_type: str, from_id: str, to_type: str, to_id: str, *labels: Label) -> None:
        """Associate two records with all of `labels`, and with those that are there already.

        Without any, the default association is made. What is there is read first: who labels the same pair in the
        same moment from elsewhere may lose a label.
        """
        if not labels:
            path = self._paths.object_associations(from_type, from_id, "default", plural(to_type), to_id)
            await self._change("associate", from_type, from_id, Request("PUT", path))
            return
        self._access.require("associations.associate")
        ends = await self._ends(from_type, from_id, to_type)
        there = (one for end in ends if end.id == to_id for one in end.labels)
        wanted = dict.fromkeys((one.type_id, one.category) for one in (*there, *labels))
        path = self._paths.object_associations(from_type, from_id, plural(to_type), to_id)
        body = [label(*one) for one in wanted]
        await self._change("associate", from_type, from_id, Request("PUT", path, body=body))

    async def remove(self, from_type: str, from_id: str, to_type: str, to_id: str) -> None:
        """Part two records: every label goes."""
        path = self._paths.object_associations(from_type, from_id, plural(to_type), to_id)
        await self._change("remove", from_type, from_id, Request("DELETE", path))

    async def remove_label(self, from_type: str, from_id: str, to_type: str, to_id: str, one: Label) -> None:
        """Take one label away; the others, and the plain association, stay."""
        path = self._paths.associations(from_type, to_type, "batch", "labels", "archive")
        pair = {"from": {"id": from_id}, "to": {"id": to_id}, "types": [label(one.type_id, one.category)]}
        await self._change("remove", from_type, from_id, Request("POST", path, body={"inputs": [pair]}), "associations")

    async def _ends(self, from_type: str, from_id: str, to_type: str) -> tuple[Associated, ...]:
        lane = self._access.exchange.associations(self._access.portal_id, from_type, to_type)
        return await lane.join(from_id, None, self._access.priority)

    async def _change(self, name: str, from_type: str, from_id: str, request: Request, kind: Kind = "calls") -> None:
        async def change() -> Done:
            answer = await self._access.send(request, kind)
            return Done(from_id, answer.correlation_id)

        await self._access.write(f"associations.{name}", from_type, from_id, {}, change)
