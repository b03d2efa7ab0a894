"""Lists of associations that share a batch. Rule: an object without associations is an empty answer, not an error."""

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from spokes.core.errors import CRMError, ObjectNotFound
from spokes.crm.batching.batch_queue import LINGER_S, Group, Lane
from spokes.crm.batching.batch_results import outcomes
from spokes.crm.transport.paced_client import Calls, Request
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.response_json import Json, elements, text_id

if TYPE_CHECKING:
    from spokes.crm.transport.client import Answer

_PAGE: Final = "500"  # associations a page


class Label(NamedTuple):
    """One association type: its number, HUBSPOT_DEFINED or USER_DEFINED, and its text, None for the plain one."""

    type_id: int
    category: str
    text: str | None = None


class Associated(NamedTuple):
    """One far end of an object's associations, and every label that stands there."""

    id: str
    labels: tuple[Label, ...]


class AssociationLane(Lane[None, tuple[Associated, ...]]):
    """Lists, for objects of one type, the objects of another type that they are associated with."""

    kind = "associations"
    size = 1000  # inputs of a batch read; HubSpot's docs, "Associate records"

    def __init__(
        self, calls: Calls, portal_id: int, paths: Paths, from_type: str, to_type: str, *, linger_s: float = LINGER_S
    ) -> None:
        super().__init__(calls, portal_id, linger_s=linger_s)
        self._paths = paths
        self._from_type = from_type
        self._to_type = to_type

    def compose(self, group: Group[None, tuple[Associated, ...]]) -> Request:
        """One batch read."""
        path = self._paths.associations(self._from_type, self._to_type, "batch", "read")
        return Request("POST", path, body={"inputs": [{"id": object_id} for object_id in group]})

    async def settle(self, group: Group[None, tuple[Associated, ...]], answer: "Answer") -> None:
        """Give each its own; what goes on beyond the first page, or stands under another id, is read singly."""
        told = outcomes(group, answer.body, _from_id)
        for object_id, error in told.refused.items():
            if isinstance(error, ObjectNotFound):
                for ask in group[object_id]:
                    ask.give(())
            else:
                await self.failed({object_id: group[object_id]}, error)
        first = {i: (ends_of(item, "to"), next_page(item)) for i, item in told.found.items()}
        left = dict.fromkeys(told.unclear, ((), "0"))  # merged away: the answer names the survivor
        singly = (self._go_on({i: group[i]}, *start) for i, start in {**first, **left}.items())
        await asyncio.gather(*singly)

    async def _go_on(
        self, group: Group[None, tuple[Associated, ...]], ends: tuple[Associated, ...], after: str
    ) -> None:
        (object_id,) = group
        path = self._paths.object_associations(self._from_type, object_id, self._to_type)
        try:
            while after:
                query = {"limit": _PAGE, **({"after": after} if after != "0" else {})}
                answer = await self.send(group, Request("GET", path, query=query))
                ends += ends_of(answer.body, "results")
                after = next_page(answer.body)
        except ObjectNotFound:
            ends = ()
        except CRMError as error:
            await self.failed(group, error)
        for ask in group[object_id]:
            ask.give(tuple({end.id: end for end in ends}.values()))


def ends_of(body: Json, name: str) -> tuple[Associated, ...]:
    """The far ends in a list of an answer."""
    return tuple(
        Associated(text_id(end.get("toObjectId")), tuple(map(label_of, elements(end, "associationTypes"))))
        for end in elements(body, name)
    )


def label_of(item: Json) -> Label:
    """An association type as HubSpot shows it."""
    number, text = item.get("typeId"), item.get("label")
    return Label(number if isinstance(number, int) else 0, text_id(item.get("category")), text_id(text) or None)


def next_page(body: Json) -> str:
    """The cursor of the page that follows, empty on the last."""
    page: Any = body.get("paging")
    for name in ("next", "after"):
        page = page.get(name) if isinstance(page, dict) else None
    return text_id(page)


def _from_id(item: Json) -> str:
    start = item.get("from")
    return text_id(start.get("id")) if isinstance(start, dict) else ""
