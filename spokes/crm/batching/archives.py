"""Archivings that share a batch. Rule: archived means that HubSpot has it in its recycle bin, or not at all.

A batch answers 204 whatever became of its inputs, and passes over records that were merged away: so it is asked which
of them lie in the bin now, and the others are archived singly, which follows merges.
"""

from typing import TYPE_CHECKING

from spokes.core.errors import CRMError, ObjectNotFound
from spokes.crm.batching.batch_queue import Batch, WriteBatchQueue
from spokes.crm.batching.batch_results import BatchResults, match_results
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.response_json import text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse


class ArchiveQueue(WriteBatchQueue[None]):
    """Archives objects of one type; one that is gone already is archived."""

    def build_request(self, group: Batch[None, WriteReceipt]) -> ApiRequest:
        """One batch archiving; a single one is a plain DELETE."""
        if len(group) == 1:
            (object_id,) = group
            return ApiRequest("DELETE", self.paths.objects(self.object_type, object_id))
        return ApiRequest("POST", self.paths.objects(self.object_type, "batch", "archive"), body=_inputs(group))

    def parse_response(self, group: Batch[None, WriteReceipt], answer: "ApiResponse") -> BatchResults:
        """A single answer says it all; of a batch, `answer` is what lies in the bin."""
        if len(group) == 1:
            return BatchResults(dict.fromkeys(group, answer.body), {}, ())
        return match_results(group, answer.body, lambda item: text_id(item.get("id")))

    async def apply_response(self, group: Batch[None, WriteReceipt], answer: "ApiResponse") -> None:
        """Look into the bin after a batch."""
        if len(group) > 1:
            path = self.paths.objects(self.object_type, "batch", "read")
            body = {**_inputs(group), "properties": [], "propertiesWithHistory": []}
            try:
                answer = await self.send_read(group, ApiRequest("POST", path, query={"archived": "true"}, body=body))
            except CRMError as error:
                await self.apply_error(group, error)
                return
        await super().apply_response(group, answer)

    async def apply_error(self, group: Batch[None, WriteReceipt], error: CRMError) -> None:
        """What is not there needs no archiving."""
        if len(group) == 1 and isinstance(error, ObjectNotFound):
            for asks in group.values():
                for ask in asks:
                    ask.resolve(WriteReceipt(ask.id, error.correlation_id))
            return
        await super().apply_error(group, error)


def _inputs(group: Batch[None, WriteReceipt]) -> dict[str, object]:
    return {"inputs": [{"id": object_id} for object_id in group]}
