"""Batched updates and upserts. Both set absolute values, so an input whose result is unknown can be retried."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from spokes.core.errors import CRMError, CRMUnavailable, ObjectMerged, ObjectNotFound
from spokes.crm.batching.batch_queue import LINGER_S, BatchQueue, WriteBatchQueue
from spokes.crm.batching.batch_results import BatchResults, match_results
from spokes.crm.batching.reads import normalise_unique_value, property_of
from spokes.crm.batching.submissions import Batch
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import ApiRequest, PacedClient
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.response_json import Json, elements, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

PropertyTexts = Mapping[str, str]


class PropertyUpdate(NamedTuple):
    """Properties to set, and whether to set them on the surviving record if the object was merged."""

    properties: PropertyTexts
    follow_merge: bool


class UpdateQueue(WriteBatchQueue[PropertyUpdate]):
    """Updates objects of one type; HubSpot silently omits merged records from a batch."""

    operation = "update"

    def uses_plain_endpoint(self, batch: Batch[PropertyUpdate, WriteReceipt]) -> bool:
        """Return whether this is a single update that follows merges."""
        return len(batch) == 1 and _follows_merges(batch)

    def build_request(self, batch: Batch[PropertyUpdate, WriteReceipt]) -> ApiRequest:
        """Return a batch update, or a plain update, which follows merges."""
        if self.uses_plain_endpoint(batch):
            ((object_id, submissions),) = batch.items()
            path = self.paths.objects(self.object_type, object_id)
            return ApiRequest("PATCH", path, body={"properties": dict(submissions[0].payload.properties)})
        inputs = [
            {"id": object_id, "properties": dict(submissions[0].payload.properties)}
            for object_id, submissions in batch.items()
        ]
        return ApiRequest("POST", self.paths.objects(self.object_type, "batch", "update"), body={"inputs": inputs})

    def parse_response(self, batch: Batch[PropertyUpdate, WriteReceipt], response: "ApiResponse") -> BatchResults:
        """Match results by object id; a plain update has one."""
        if self.uses_plain_endpoint(batch):
            return BatchResults(dict.fromkeys(batch, response.body), {}, ())
        return match_results(batch, response.body, lambda item: text_id(item.get("id")))

    async def retry_alone(self, batch: Batch[PropertyUpdate, WriteReceipt]) -> None:
        """Follow a merge; values that were computed for this record only are rejected.

        The error is ObjectMerged, or ObjectNotFound if the object is gone.
        """
        if _follows_merges(batch):
            await super().retry_alone(batch)
            return
        (object_id,) = batch
        try:
            response = await self.send_read(batch, ApiRequest("GET", self.paths.objects(self.object_type, object_id)))
        except CRMError as error:
            await BatchQueue.apply_error(self, batch, error)
        else:
            await BatchQueue.apply_error(self, batch, ObjectMerged(correlation_id=response.correlation_id))


def _follows_merges(batch: Batch[PropertyUpdate, WriteReceipt]) -> bool:
    return all(submission.payload.follow_merge for submissions in batch.values() for submission in submissions)


class UpsertQueue(WriteBatchQueue[PropertyTexts]):
    """Updates objects of one type by the value of one unique property, and creates those that do not exist."""

    operation = "upsert"

    def __init__(
        self,
        client: PacedClient,
        portal_id: int,
        paths: Paths,
        object_type: str,
        id_property: str,
        *,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(client, portal_id, paths, object_type, linger_s=linger_s)
        self._id_property = id_property

    def build_request(self, batch: Batch[PropertyTexts, WriteReceipt]) -> ApiRequest:
        """Return a batch upsert; HubSpot has none for a single object."""
        inputs = [
            {"id": value, "idProperty": self._id_property, "properties": dict(submissions[0].payload)}
            for value, submissions in batch.items()
        ]
        return ApiRequest("POST", self.paths.objects(self.object_type, "batch", "upsert"), body={"inputs": inputs})

    def parse_response(self, batch: Batch[PropertyTexts, WriteReceipt], response: "ApiResponse") -> BatchResults:
        """Match results by the unique value, which HubSpot may have reformatted: what then is missing is retried."""
        if len(batch) == 1:
            (value,) = batch
            items = [item for item in elements(response.body, "results") if text_id(item.get("id"))]
            body = {**response.body, "results": items[:1]}
            return match_results(batch, body, lambda _: value, missing=CRMUnavailable())
        values = {normalise_unique_value(self._id_property, value): value for value in batch}

        def key(item: Json) -> str:
            return values.get(normalise_unique_value(self._id_property, property_of(item, self._id_property)), "")

        # Not found makes `apply_response` retry the input alone.
        return match_results(batch, response.body, key, missing=ObjectNotFound(status=404))

    def written_id(self, input_id: str, item: Json) -> str:
        """Return the object's id, which the response names."""
        del input_id
        return text_id(item.get("id"))
