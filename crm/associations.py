"""Associations between records. Rule: ids are text; types go by any of their names."""

from collections.abc import Sequence

from crm.access import Access, Done
from crm.association_types import label
from crm.calls import Request
from crm.types import plural


class Associations:
    """The associations that one handler may see and change."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def list(self, from_type: str, from_id: str, to_type: str) -> tuple[str, ...]:
        """Return the ids of `to_type` that an object is associated with, by any label."""
        self._access.require("associations.list")
        lane = self._access.exchange.associations(self._access.portal_id, from_type, to_type)
        return await lane.join(from_id, None)

    async def associate(
        self, from_type: str, from_id: str, to_type: str, to_id: str, labels: Sequence[tuple[int, str]] = ()
    ) -> None:
        """Associate two records.

        Args:
            labels: type ids with their category, HUBSPOT_DEFINED or USER_DEFINED. They replace the labels that are
                there: name all that are to stay. Without any, the default association is made.
        """
        rest = (plural(to_type), to_id) if labels else ("default", plural(to_type), to_id)
        body = [label(type_id, category) for type_id, category in labels] or None
        path = self._access.exchange.paths.object_associations(from_type, from_id, *rest)
        await self._change("associate", from_type, from_id, Request("PUT", path, body=body))

    async def remove(self, from_type: str, from_id: str, to_type: str, to_id: str) -> None:
        """Part two records: every label goes."""
        path = self._access.exchange.paths.object_associations(from_type, from_id, plural(to_type), to_id)
        await self._change("remove", from_type, from_id, Request("DELETE", path))

    async def _change(self, name: str, from_type: str, from_id: str, request: Request) -> None:
        async def change() -> Done:
            answer = await self._access.exchange.calls.send(self._access.portal_id, request)
            return Done(from_id, answer.correlation_id)

        await self._access.write(f"associations.{name}", from_type, from_id, {}, change)
