"""Updates and upserts that share a batch. Rule: both set absolute values, so what is unclear may be tried again."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from spokes.core.errors import CRMError, CRMUnavailable, ObjectMerged, ObjectNotFound
from spokes.crm.batching.batch_queue import LINGER_S, Batch, BatchQueue, WriteBatchQueue
from spokes.crm.batching.batch_results import BatchResults, match_results
from spokes.crm.batching.reads import normalise_unique_value, property_of
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import ApiRequest, PacedClient
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.response_json import Json, elements, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

PropertyTexts = Mapping[str, str]


class PropertyUpdate(NamedTuple):
    """Properties to be set, and whether on the record that an id has been merged into, too."""

    properties: PropertyTexts
    follow_merge: bool


class UpdateQueue(WriteBatchQueue[PropertyUpdate]):
    """Updates objects of one type; a batch leaves out, without a word, a record that was merged away."""

    def uses_plain_endpoint(self, group: Batch[PropertyUpdate, WriteReceipt]) -> bool:
        """A single one that may follow a merge."""
        return len(group) == 1 and _follows_merges(group)

    def build_request(self, group: Batch[PropertyUpdate, WriteReceipt]) -> ApiRequest:
        """One batch update; a plain update, which also knows the former ids of merged records, where that is meant."""
        if self.uses_plain_endpoint(group):
            ((object_id, asks),) = group.items()
            path = self.paths.objects(self.object_type, object_id)
            return ApiRequest("PATCH", path, body={"properties": dict(asks[0].want.properties)})
        inputs = [{"id": object_id, "properties": dict(asks[0].want.properties)} for object_id, asks in group.items()]
        return ApiRequest("POST", self.paths.objects(self.object_type, "batch", "update"), body={"inputs": inputs})

    def parse_response(self, group: Batch[PropertyUpdate, WriteReceipt], answer: "ApiResponse") -> BatchResults:
        """A plain update says it all."""
        if self.uses_plain_endpoint(group):
            return BatchResults(dict.fromkeys(group, answer.body), {}, ())
        return match_results(group, answer.body, lambda item: text_id(item.get("id")))

    async def retry_alone(self, group: Batch[PropertyUpdate, WriteReceipt]) -> None:
        """Follow the merge, or find out whether there was one: what was computed for one record is no other's."""
        if _follows_merges(group):
            await super().retry_alone(group)
            return
        (object_id,) = group
        try:
            answer = await self.send_read(group, ApiRequest("GET", self.paths.objects(self.object_type, object_id)))
        except CRMError as error:
            await BatchQueue.apply_error(self, group, error)
        else:
            await BatchQueue.apply_error(self, group, ObjectMerged(correlation_id=answer.correlation_id))


def _follows_merges(group: Batch[PropertyUpdate, WriteReceipt]) -> bool:
    return all(ask.want.follow_merge for asks in group.values() for ask in asks)


class UpsertQueue(WriteBatchQueue[PropertyTexts]):
    """Updates objects of one type by the value of one unique property, and makes those that are not there."""

    def __init__(
        self,
        calls: PacedClient,
        portal_id: int,
        paths: Paths,
        object_type: str,
        id_property: str,
        *,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(calls, portal_id, paths, object_type, linger_s=linger_s)
        self._id_property = id_property

    def build_request(self, group: Batch[PropertyTexts, WriteReceipt]) -> ApiRequest:
        """One batch upsert; HubSpot has none for a single object."""
        inputs = [
            {"id": value, "idProperty": self._id_property, "properties": dict(asks[0].want)}
            for value, asks in group.items()
        ]
        return ApiRequest("POST", self.paths.objects(self.object_type, "batch", "upsert"), body={"inputs": inputs})

    def parse_response(self, group: Batch[PropertyTexts, WriteReceipt], answer: "ApiResponse") -> BatchResults:
        """A result shows the unique value, unless HubSpot put it into another form."""
        values = {normalise_unique_value(self._id_property, value): value for value in group}
        missing = ObjectNotFound(status=404)  # of a batch: then it is tried singly

        def key(item: Json) -> str:
            return values.get(normalise_unique_value(self._id_property, property_of(item, self._id_property)), "")

        if len(group) > 1:
            return match_results(group, answer.body, key, missing=missing)
        (value,) = group
        made = [item for item in elements(answer.body, "results") if text_id(item.get("id"))]
        body = {**answer.body, "results": made[:1]}
        return match_results(group, body, lambda _: value, missing=CRMUnavailable())

    def written_id(self, input_id: str, item: Json) -> str:
        """The id that the answer names."""
        del input_id
        return text_id(item.get("id"))
