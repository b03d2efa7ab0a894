"""Archivings that share a batch. Rule: archived means that HubSpot has it in its recycle bin, or not at all.

A batch answers 204 whatever became of its inputs, and passes over records that were merged away: so it is asked which
of them lie in the bin now, and the others are archived singly, which follows merges.
"""

from typing import TYPE_CHECKING

from spokes.core.errors import CRMError, ObjectNotFound
from spokes.crm.batching.batch_queue import Group, WriteLane
from spokes.crm.batching.batch_results import Outcomes, outcomes
from spokes.crm.results import Done
from spokes.crm.transport.paced_client import Request
from spokes.crm.transport.response_json import text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import Answer


class ArchiveLane(WriteLane[None]):
    """Archives objects of one type; one that is gone already is archived."""

    def compose(self, group: Group[None, Done]) -> Request:
        """One batch archiving; a single one is a plain DELETE."""
        if len(group) == 1:
            (object_id,) = group
            return Request("DELETE", self.paths.objects(self.type, object_id))
        return Request("POST", self.paths.objects(self.type, "batch", "archive"), body=_inputs(group))

    def told(self, group: Group[None, Done], answer: "Answer") -> Outcomes:
        """A single answer says it all; of a batch, `answer` is what lies in the bin."""
        if len(group) == 1:
            return Outcomes(dict.fromkeys(group, answer.body), {}, ())
        return outcomes(group, answer.body, lambda item: text_id(item.get("id")))

    async def settle(self, group: Group[None, Done], answer: "Answer") -> None:
        """Look into the bin after a batch."""
        if len(group) > 1:
            path = self.paths.objects(self.type, "batch", "read")
            body = {**_inputs(group), "properties": [], "propertiesWithHistory": []}
            try:
                answer = await self.send(group, Request("POST", path, query={"archived": "true"}, body=body))
            except CRMError as error:
                await self.failed(group, error)
                return
        await super().settle(group, answer)

    async def failed(self, group: Group[None, Done], error: CRMError) -> None:
        """What is not there needs no archiving."""
        if len(group) == 1 and isinstance(error, ObjectNotFound):
            for asks in group.values():
                for ask in asks:
                    ask.give(Done(ask.id, error.correlation_id))
            return
        await super().failed(group, error)


def _inputs(group: Group[None, Done]) -> dict[str, object]:
    return {"inputs": [{"id": object_id} for object_id in group]}
