"""Updates and upserts that share a batch. Rule: both set absolute values, so what is unclear may be tried again."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from spokes.core.errors import CRMError, CRMUnavailable, ObjectMerged, ObjectNotFound
from spokes.crm.batching.batch_queue import LINGER_S, Group, Lane, WriteLane
from spokes.crm.batching.batch_results import Outcomes, outcomes
from spokes.crm.batching.reads import same_value, value_of
from spokes.crm.results import Done
from spokes.crm.transport.paced_client import Calls, Request
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.response_json import Json, elements, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import Answer

Change = Mapping[str, str]


class Update(NamedTuple):
    """Properties to be set, and whether on the record that an id has been merged into, too."""

    properties: Change
    follows: bool


class UpdateLane(WriteLane[Update]):
    """Updates objects of one type; a batch leaves out, without a word, a record that was merged away."""

    def is_plain(self, group: Group[Update, Done]) -> bool:
        """A single one that may follow a merge."""
        return len(group) == 1 and _follows(group)

    def compose(self, group: Group[Update, Done]) -> Request:
        """One batch update; a plain update, which also knows the former ids of merged records, where that is meant."""
        if self.is_plain(group):
            ((object_id, asks),) = group.items()
            path = self.paths.objects(self.type, object_id)
            return Request("PATCH", path, body={"properties": dict(asks[0].want.properties)})
        inputs = [{"id": object_id, "properties": dict(asks[0].want.properties)} for object_id, asks in group.items()]
        return Request("POST", self.paths.objects(self.type, "batch", "update"), body={"inputs": inputs})

    def told(self, group: Group[Update, Done], answer: "Answer") -> Outcomes:
        """A plain update says it all."""
        if self.is_plain(group):
            return Outcomes(dict.fromkeys(group, answer.body), {}, ())
        return outcomes(group, answer.body, lambda item: text_id(item.get("id")))

    async def singly(self, group: Group[Update, Done]) -> None:
        """Follow the merge, or find out whether there was one: what was computed for one record is no other's."""
        if _follows(group):
            await super().singly(group)
            return
        (object_id,) = group
        try:
            answer = await self.send(group, Request("GET", self.paths.objects(self.type, object_id)))
        except CRMError as error:
            await Lane.failed(self, group, error)
        else:
            await Lane.failed(self, group, ObjectMerged(correlation_id=answer.correlation_id))


def _follows(group: Group[Update, Done]) -> bool:
    return all(ask.want.follows for asks in group.values() for ask in asks)


class UpsertLane(WriteLane[Change]):
    """Updates objects of one type by the value of one unique property, and makes those that are not there."""

    def __init__(
        self,
        calls: Calls,
        portal_id: int,
        paths: Paths,
        object_type: str,
        id_property: str,
        *,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(calls, portal_id, paths, object_type, linger_s=linger_s)
        self._id_property = id_property

    def compose(self, group: Group[Change, Done]) -> Request:
        """One batch upsert; HubSpot has none for a single object."""
        inputs = [
            {"id": value, "idProperty": self._id_property, "properties": dict(asks[0].want)}
            for value, asks in group.items()
        ]
        return Request("POST", self.paths.objects(self.type, "batch", "upsert"), body={"inputs": inputs})

    def told(self, group: Group[Change, Done], answer: "Answer") -> Outcomes:
        """A result shows the unique value, unless HubSpot put it into another form."""
        values = {same_value(self._id_property, value): value for value in group}
        missing = ObjectNotFound(status=404)  # of a batch: then it is tried singly

        def key(item: Json) -> str:
            return values.get(same_value(self._id_property, value_of(item, self._id_property)), "")

        if len(group) > 1:
            return outcomes(group, answer.body, key, missing=missing)
        (value,) = group
        made = [item for item in elements(answer.body, "results") if text_id(item.get("id"))]
        body = {**answer.body, "results": made[:1]}
        return outcomes(group, body, lambda _: value, missing=CRMUnavailable())

    def made(self, input_id: str, item: Json) -> str:
        """The id that the answer names."""
        del input_id
        return text_id(item.get("id"))
