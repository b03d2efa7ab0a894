"""Batched listing of associations. An object without associations has an empty list, not an error."""

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from spokes.core.errors import CRMError, ObjectNotFound
from spokes.core.priority import Priority
from spokes.crm.batching.batch_queue import LINGER_S, BatchQueue
from spokes.crm.batching.batch_results import match_results
from spokes.crm.batching.submissions import Batch
from spokes.crm.transport.paced_client import UNCHECKED, ApiRequest, PacedClient
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.response_json import Json, elements, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

_PAGE_SIZE: Final = "500"  # associations per page


class Label(NamedTuple):
    """An association type: its id, HUBSPOT_DEFINED or USER_DEFINED, and its text, None for the unlabelled one."""

    type_id: int
    category: str
    text: str | None = None


class AssociatedObject(NamedTuple):
    """An object that another one is associated with, and all labels of that association."""

    id: str
    labels: tuple[Label, ...]


_Batch: TypeAlias = Batch[None, tuple[AssociatedObject, ...]]


class AssociationQueue(BatchQueue[None, tuple[AssociatedObject, ...]]):
    """Lists, for objects of one type, the objects of another type that they are associated with."""

    operation = "association"
    kind = "associations"
    max_inputs = 1000  # HubSpot's docs, "Associate records"

    def __init__(
        self,
        client: PacedClient,
        portal_id: int,
        paths: Paths,
        from_type: str,
        to_type: str,
        *,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(client, portal_id, linger_s=linger_s)
        self._paths = paths
        self._from_type = from_type
        self._to_type = to_type

    def get(self, object_id: str, priority: Priority = "interactive") -> "asyncio.Future[tuple[AssociatedObject, ...]]":
        """List the associations of one object. Needs no lease."""
        return self.submit(object_id, None, UNCHECKED[priority])

    def build_request(self, batch: _Batch) -> ApiRequest:
        """Return a batch read."""
        path = self._paths.associations(self._from_type, self._to_type, "batch", "read")
        return ApiRequest("POST", path, body={"inputs": [{"id": object_id} for object_id in batch]})

    async def apply_response(self, batch: _Batch, response: "ApiResponse") -> None:
        """Resolve each submission; read further pages, and lists that came under another id, alone."""
        results = match_results(batch, response.body, _from_id)
        for object_id, error in results.failed.items():
            if isinstance(error, ObjectNotFound):
                for submission in batch[object_id]:
                    submission.resolve(())
            else:
                await self.apply_refusal(object_id, batch[object_id], error)
        starts = {i: (parse_associated(item, "to"), next_cursor(item)) for i, item in results.found.items()}
        starts |= dict.fromkeys(results.unknown, ((), "0"))  # merged: the response names the survivor instead
        await asyncio.gather(*(self._read_pages({i: batch[i]}, *start) for i, start in starts.items()))

    async def send_again(self, batch: _Batch) -> None:
        """List the associations of each object alone."""
        await asyncio.gather(*(self._read_pages({i: batch[i]}, (), "0") for i in batch))

    async def _read_pages(self, batch: _Batch, associated: tuple[AssociatedObject, ...], after: str) -> None:
        (object_id,) = batch
        path = self._paths.object_associations(self._from_type, object_id, self._to_type)
        try:
            while after:
                query = {"limit": _PAGE_SIZE, **({"after": after} if after != "0" else {})}
                response = await self.send_read(batch, ApiRequest("GET", path, query=query))
                associated += parse_associated(response.body, "results")
                after = next_cursor(response.body)
        except ObjectNotFound:
            associated = ()
        except CRMError as error:
            await self.apply_error(batch, error)
        for submission in batch[object_id]:
            submission.resolve(tuple({item.id: item for item in associated}.values()))


def parse_associated(body: Json, name: str) -> tuple[AssociatedObject, ...]:
    """Return the associated objects in the list `name` of a response."""
    return tuple(
        AssociatedObject(text_id(item.get("toObjectId")), tuple(map(parse_label, elements(item, "associationTypes"))))
        for item in elements(body, name)
    )


def parse_label(item: Json) -> Label:
    """Return an association type of a response."""
    type_id, text = item.get("typeId"), item.get("label")
    return Label(type_id if isinstance(type_id, int) else 0, text_id(item.get("category")), text_id(text) or None)


def next_cursor(body: Json) -> str:
    """Return the cursor of the next page, empty on the last page."""
    paging: Any = body.get("paging")
    for name in ("next", "after"):
        paging = paging.get(name) if isinstance(paging, dict) else None
    return text_id(paging)


def _from_id(item: Json) -> str:
    from_object = item.get("from")
    return text_id(from_object.get("id")) if isinstance(from_object, dict) else ""
