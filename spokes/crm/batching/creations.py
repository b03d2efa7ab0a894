"""Creations that share a batch. Rule: each has a trace of its own, without which HubSpot makes all or nothing.

Source: HubSpot's docs, "Error handling" (objectWriteTraceId). Whether a creation without an answer of its own was made
is not known, and it is not tried again here: HubSpot has no idempotency keys.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from spokes.core.errors import CRMUnavailable
from spokes.crm.batching.batch_queue import Batch, WriteBatchQueue
from spokes.crm.batching.batch_results import BatchResults, match_results
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.response_json import Json, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

Creation = Mapping[str, object]  # `properties` and `associations`, as HubSpot takes them


class CreateQueue(WriteBatchQueue[Creation]):
    """Makes objects of one type; an input goes by a trace that nobody else has."""

    def build_request(self, group: Batch[Creation, WriteReceipt]) -> ApiRequest:
        """One batch creation; a single one is a plain creation."""
        if len(group) == 1:
            (asks,) = group.values()
            return ApiRequest("POST", self.paths.objects(self.object_type), body=asks[0].want)
        inputs = [{**asks[0].want, "objectWriteTraceId": trace} for trace, asks in group.items()]
        return ApiRequest("POST", self.paths.objects(self.object_type, "batch", "create"), body={"inputs": inputs})

    def parse_response(self, group: Batch[Creation, WriteReceipt], answer: "ApiResponse") -> BatchResults:
        """Results and errors name the trace they belong to."""
        unknown = CRMUnavailable(status=answer.status, correlation_id=answer.correlation_id)
        if len(group) == 1:
            made = dict.fromkeys(group, answer.body) if text_id(answer.body.get("id")) else {}
            return BatchResults(made, {} if made else dict.fromkeys(group, unknown), ())
        told = match_results(group, answer.body, _trace_id, missing=unknown)
        found = {trace: item for trace, item in told.found.items() if text_id(item.get("id"))}
        open_ones = dict.fromkeys((*told.unknown, *(trace for trace in told.found if trace not in found)), unknown)
        return BatchResults(found, {**told.failed, **open_ones}, ())

    def written_id(self, input_id: str, item: Json) -> str:
        """The id that the answer names."""
        del input_id
        return text_id(item.get("id"))


def _trace_id(item: Json) -> str:
    return text_id(item.get("objectWriteTraceId"))
