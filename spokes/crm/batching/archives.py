"""Batched archiving. An object is archived if HubSpot has it in its recycle bin, or does not have it at all.

HubSpot answers a batch with 204 even if it skipped inputs, and it skips merged records. So the recycle bin is read
afterwards, and objects that are not in it are archived alone, which follows merges.
"""

from typing import TYPE_CHECKING

from spokes.core.errors import CRMError, ObjectNotFound
from spokes.crm.batching.batch_queue import WriteBatchQueue
from spokes.crm.batching.batch_results import BatchResults, match_results
from spokes.crm.batching.submissions import Batch
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.response_json import text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse


class ArchiveQueue(WriteBatchQueue[None]):
    """Archives objects of one type."""

    operation = "archive"

    def build_request(self, batch: Batch[None, WriteReceipt]) -> ApiRequest:
        """Return a batch archiving, or a plain DELETE for one object."""
        if len(batch) == 1:
            (object_id,) = batch
            return ApiRequest("DELETE", self.paths.objects(self.object_type, object_id))
        return ApiRequest("POST", self.paths.objects(self.object_type, "batch", "archive"), body=_inputs(batch))

    def parse_response(self, batch: Batch[None, WriteReceipt], response: "ApiResponse") -> BatchResults:
        """Match results by object id; for a batch, `response` lists the objects in the recycle bin."""
        if len(batch) == 1:
            return BatchResults(dict.fromkeys(batch, response.body), {}, ())
        return match_results(batch, response.body, lambda item: text_id(item.get("id")))

    async def apply_response(self, batch: Batch[None, WriteReceipt], response: "ApiResponse") -> None:
        """Read the recycle bin after a batch, and apply what it holds."""
        if len(batch) > 1:
            path = self.paths.objects(self.object_type, "batch", "read")
            body = {**_inputs(batch), "properties": [], "propertiesWithHistory": []}
            try:
                response = await self.send_read(batch, ApiRequest("POST", path, query={"archived": "true"}, body=body))
            except CRMError as error:
                await self.apply_error(batch, error)
                return
        await super().apply_response(batch, response)

    async def apply_error(self, batch: Batch[None, WriteReceipt], error: CRMError) -> None:
        """Count an object that does not exist as archived."""
        if len(batch) == 1 and isinstance(error, ObjectNotFound):
            for submissions in batch.values():
                for submission in submissions:
                    submission.resolve(WriteReceipt(submission.input_id, error.correlation_id))
            return
        await super().apply_error(batch, error)


def _inputs(batch: Batch[None, WriteReceipt]) -> dict[str, object]:
    return {"inputs": [{"id": object_id} for object_id in batch]}
