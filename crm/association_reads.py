"""Lists of associations that share a batch. Rule: an object without associations is an empty answer, not an error."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from core.errors import CRMError, ObjectNotFound
from crm.batches import elements, outcomes, text_id
from crm.calls import Calls, Request
from crm.coalescer import LINGER_S, Group, Lane
from crm.faults import Json
from crm.paths import Paths

if TYPE_CHECKING:
    from crm.client import Answer

_PAGE: Final = "500"  # associations a page


class AssociationLane(Lane[None, tuple[str, ...]]):
    """Lists, for objects of one type, the ids of another type that they are associated with."""

    kind = "associations"
    size = 1000  # inputs of a batch read; HubSpot's docs, "Associate records"

    def __init__(
        self, calls: Calls, portal_id: int, paths: Paths, from_type: str, to_type: str, *, linger_s: float = LINGER_S
    ) -> None:
        super().__init__(calls, portal_id, linger_s=linger_s)
        self._paths = paths
        self._from_type = from_type
        self._to_type = to_type

    def compose(self, group: Group[None, tuple[str, ...]]) -> Request:
        """One batch read."""
        path = self._paths.associations(self._from_type, self._to_type, "batch", "read")
        return Request("POST", path, body={"inputs": [{"id": object_id} for object_id in group]})

    async def settle(self, group: Group[None, tuple[str, ...]], answer: "Answer") -> None:
        """Give each its own; what goes on beyond the first page is read on."""
        told = outcomes(group, answer.body, _from_id)
        for object_id, error in told.refused.items():
            for ask in group[object_id]:
                if isinstance(error, ObjectNotFound):
                    ask.give(())
                else:
                    ask.fail(error)
        for object_id in told.unclear:
            for ask in group[object_id]:
                ask.give(())
        await asyncio.gather(*(self._give(group, object_id, item) for object_id, item in told.found.items()))

    async def _give(self, group: Group[None, tuple[str, ...]], object_id: str, item: Json) -> None:
        ids = [text_id(to.get("toObjectId")) for to in elements(item, "to")]
        try:
            after = next_page(item)
            while after:
                query = {"limit": _PAGE, "after": after}
                path = self._paths.object_associations(self._from_type, object_id, self._to_type)
                answer = await self.calls.send(self.portal_id, Request("GET", path, query=query))
                ids += [text_id(to.get("toObjectId")) for to in elements(answer.body, "results")]
                after = next_page(answer.body)
        except CRMError as error:
            await self.failed({object_id: group[object_id]}, error)
        for ask in group[object_id]:
            ask.give(tuple(dict.fromkeys(ids)))


def next_page(body: Json) -> str:
    """The cursor of the page that follows, empty on the last."""
    page: Any = body.get("paging")
    for name in ("next", "after"):
        page = page.get(name) if isinstance(page, dict) else None
    return text_id(page)


def _from_id(item: Json) -> str:
    start = item.get("from")
    return text_id(start.get("id")) if isinstance(start, dict) else ""
