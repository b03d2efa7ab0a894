"""Lists of associations that share a batch. Rule: an object without associations is an empty answer, not an error."""

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from spokes.core.errors import CRMError, ObjectNotFound
from spokes.crm.batching.batch_queue import LINGER_S, Batch, BatchQueue
from spokes.crm.batching.batch_results import match_results
from spokes.crm.transport.paced_client import ApiRequest, PacedClient
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.response_json import Json, elements, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

_PAGE_SIZE: Final = "500"  # associations a page


class Label(NamedTuple):
    """One association type: its number, HUBSPOT_DEFINED or USER_DEFINED, and its text, None for the plain one."""

    type_id: int
    category: str
    text: str | None = None


class AssociatedObject(NamedTuple):
    """One far end of an object's associations, and every label that stands there."""

    id: str
    labels: tuple[Label, ...]


class AssociationQueue(BatchQueue[None, tuple[AssociatedObject, ...]]):
    """Lists, for objects of one type, the objects of another type that they are associated with."""

    kind = "associations"
    size = 1000  # inputs of a batch read; HubSpot's docs, "Associate records"

    def __init__(
        self,
        calls: PacedClient,
        portal_id: int,
        paths: Paths,
        from_type: str,
        to_type: str,
        *,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(calls, portal_id, linger_s=linger_s)
        self._paths = paths
        self._from_type = from_type
        self._to_type = to_type

    def build_request(self, group: Batch[None, tuple[AssociatedObject, ...]]) -> ApiRequest:
        """One batch read."""
        path = self._paths.associations(self._from_type, self._to_type, "batch", "read")
        return ApiRequest("POST", path, body={"inputs": [{"id": object_id} for object_id in group]})

    async def apply_response(self, group: Batch[None, tuple[AssociatedObject, ...]], answer: "ApiResponse") -> None:
        """Give each its own; what goes on beyond the first page, or stands under another id, is read singly."""
        told = match_results(group, answer.body, _from_id)
        for object_id, error in told.failed.items():
            if isinstance(error, ObjectNotFound):
                for ask in group[object_id]:
                    ask.resolve(())
            else:
                await self.apply_error({object_id: group[object_id]}, error)
        first = {i: (parse_associated(item, "to"), next_cursor(item)) for i, item in told.found.items()}
        left = dict.fromkeys(told.unknown, ((), "0"))  # merged away: the answer names the survivor
        singly = (self._read_pages({i: group[i]}, *start) for i, start in {**first, **left}.items())
        await asyncio.gather(*singly)

    async def _read_pages(
        self, group: Batch[None, tuple[AssociatedObject, ...]], ends: tuple[AssociatedObject, ...], after: str
    ) -> None:
        (object_id,) = group
        path = self._paths.object_associations(self._from_type, object_id, self._to_type)
        try:
            while after:
                query = {"limit": _PAGE_SIZE, **({"after": after} if after != "0" else {})}
                answer = await self.send_read(group, ApiRequest("GET", path, query=query))
                ends += parse_associated(answer.body, "results")
                after = next_cursor(answer.body)
        except ObjectNotFound:
            ends = ()
        except CRMError as error:
            await self.apply_error(group, error)
        for ask in group[object_id]:
            ask.resolve(tuple({end.id: end for end in ends}.values()))


def parse_associated(body: Json, name: str) -> tuple[AssociatedObject, ...]:
    """The far ends in a list of an answer."""
    return tuple(
        AssociatedObject(text_id(end.get("toObjectId")), tuple(map(parse_label, elements(end, "associationTypes"))))
        for end in elements(body, name)
    )


def parse_label(item: Json) -> Label:
    """An association type as HubSpot shows it."""
    number, text = item.get("typeId"), item.get("label")
    return Label(number if isinstance(number, int) else 0, text_id(item.get("category")), text_id(text) or None)


def next_cursor(body: Json) -> str:
    """The cursor of the page that follows, empty on the last."""
    page: Any = body.get("paging")
    for name in ("next", "after"):
        page = page.get(name) if isinstance(page, dict) else None
    return text_id(page)


def _from_id(item: Json) -> str:
    start = item.get("from")
    return text_id(start.get("id")) if isinstance(start, dict) else ""
