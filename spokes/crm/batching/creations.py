"""Batched creations, each with its own trace id, without which HubSpot creates all or none.

Source: HubSpot's docs, "Error handling" (objectWriteTraceId). If HubSpot's 2xx answer has no readable entry for a
creation, whether it was made is unknown, and nothing repeats it: HubSpot has no idempotency keys.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from spokes.core.errors import CRMError, CRMUnavailable
from spokes.crm.batching.batch_queue import WriteBatchQueue
from spokes.crm.batching.batch_results import BatchResults, match_results
from spokes.crm.batching.errors import CreationUnreadable
from spokes.crm.batching.submissions import Batch
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.errors.error_classes import UNPROCESSED
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.response_json import Json, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

Creation = Mapping[str, object]  # `properties` and `associations`, in HubSpot's JSON


class CreateQueue(WriteBatchQueue[Creation]):
    """Creates objects of one type; input ids are unique trace ids."""

    operation = "creation"

    def build_request(self, batch: Batch[Creation, WriteReceipt]) -> ApiRequest:
        """Return a batch creation, or a plain creation for one input."""
        if len(batch) == 1:
            (submissions,) = batch.values()
            return ApiRequest("POST", self.paths.objects(self.object_type), body=submissions[0].payload)
        inputs = [{**submissions[0].payload, "objectWriteTraceId": trace} for trace, submissions in batch.items()]
        return ApiRequest("POST", self.paths.objects(self.object_type, "batch", "create"), body={"inputs": inputs})

    def parse_response(self, batch: Batch[Creation, WriteReceipt], response: "ApiResponse") -> BatchResults:
        """Match results and errors by trace id; an input without either failed with CreationUnreadable."""
        unknown = CreationUnreadable(status=response.status, correlation_id=response.correlation_id)
        if len(batch) == 1:
            created = dict.fromkeys(batch, response.body) if text_id(response.body.get("id")) else {}
            return BatchResults(created, {} if created else dict.fromkeys(batch, unknown), ())
        results = match_results(batch, response.body, _trace_id, missing=unknown)
        created = {trace: item for trace, item in results.found.items() if text_id(item.get("id"))}
        without_id = (trace for trace in results.found if trace not in created)
        failed = {**results.failed, **dict.fromkeys((*results.unknown, *without_id), unknown)}
        return BatchResults(created, failed, ())

    def may_repeat(self, error: CRMError) -> bool:
        """Return whether HubSpot certainly did not create the object: an internal error or time-out leaves it open."""
        is_certain = not isinstance(error, CRMUnavailable) or error.category in UNPROCESSED
        return is_certain and super().may_repeat(error)

    def meaning_of(self, error: CRMError) -> CRMError:
        """Return CreationUnreadable for a 2xx whose body cannot be read."""
        if isinstance(error, CRMUnavailable) and HTTPStatus.OK <= error.status < HTTPStatus.MULTIPLE_CHOICES:
            return CreationUnreadable(status=error.status, correlation_id=error.correlation_id)
        return error

    def written_id(self, input_id: str, item: Json) -> str:
        """Return the new id, which the response names."""
        del input_id
        return text_id(item.get("id"))


def _trace_id(item: Json) -> str:
    return text_id(item.get("objectWriteTraceId"))
