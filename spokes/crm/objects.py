"""Objects of any type. Rule: ids and values are text, and whoever asks for many learns the fate of each.

Callers that come together share calls: each method here is one input of a batch, and `*_many` is many of them.

Which properties a portal has of a type. Rule: whatever HubSpot does not tell is not guessed.

Source: HubSpot's docs, "Properties API".
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple
from uuid import uuid4

from spokes.core.errors import CRMUnavailable, PermanentCRMError
from spokes.crm.access import Access
from spokes.crm.associations import on_create
from spokes.crm.batching.association_reads import next_page
from spokes.crm.batching.batch_queue import Lane, Want
from spokes.crm.batching.updates import Update
from spokes.crm.object_types import plural, singular
from spokes.crm.records import Record, record_of
from spokes.crm.results import Done, Fate, Fates, fates_of
from spokes.crm.search import Condition, Search, where
from spokes.crm.transport.paced_client import Request
from spokes.crm.transport.response_json import elements, text_id
from spokes.crm.validation import Value, checked

__all__ = ["Condition", "Fate", "Fates", "New", "Objects", "Record", "where"]

_PAGE: Final = 100
Properties = Mapping[str, Value]


class New(NamedTuple):
    """An object to be made: its properties, and the records it belongs to, ids by type."""

    properties: Properties
    to: Mapping[str, Iterable[str]] | None = None


class Objects:
    """Objects of one type, as one handler may see and change them."""

    def __init__(self, access: Access, object_type: str) -> None:
        """Serve `object_type`: by name, singular or plural, or by id, such as `2-123`."""
        self.service = plural(object_type)
        self.type = singular(object_type)
        self._access = access
        self._exchange = access.exchange

    async def get(self, object_id: str) -> Record:
        """Read an object: the declared properties and `hs_object_id`. A record that was merged away is its survivor.

        Raises:
            NotPermitted: no property of the type was declared.
            ObjectNotFound: there is none, or it is archived.
        """
        return await self._read(object_id, "")

    async def get_by(self, property_name: str, value: str) -> Record:
        """Read the object that has `value` in a unique property, such as a contact's email."""
        return await self._read(value, property_name)

    async def get_many(self, object_ids: Iterable[str]) -> Fates[Record]:
        """Read many; the `result` of each fate is the record."""
        self._access.properties(self.service)
        return await fates_of((i, self.get(i)) for i in object_ids)

    async def get_many_by(self, property_name: str, values: Iterable[str]) -> Fates[Record]:
        """Read many by a unique property; the `id` of each fate is the value that was asked for."""
        self._access.properties(self.service)
        return await fates_of((value, self.get_by(property_name, value)) for value in values)

    async def search(
        self, condition: Condition | None = None, *, text: str = "", sort: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        """Find objects, at most `limit`, as the search index knew them some seconds ago.

        Args:
            condition: `where("lifecyclestage").equals("lead") & where("phone").is_set()`; all objects when None.
            text: words that stand in HubSpot's default search properties.
            sort: a property; `-createdate` for the newest first.
            limit: 10,000 at most; `search_all` knows no such limit.

        Raises:
            InvalidRequest: the query is more than HubSpot takes; nothing was sent.
        """
        return await Search(self._access, self.service).first(condition, text, sort, limit)

    def search_all(self, condition: Condition | None = None, *, text: str = "") -> AsyncIterator[Record]:
        """Go through all objects that are found, in the order of their ids, beyond 10,000 too."""
        return Search(self._access, self.service).all(condition, text)

    async def list(self) -> AsyncIterator[Record]:
        """Go through all objects of the type, a page of a hundred at a time."""
        names = self._access.properties(self.service)
        query: dict[str, str | Sequence[str]] = {"limit": str(_PAGE), "properties": names}
        path = self._exchange.paths.objects(self.service)
        while True:
            answer = await self._access.send(Request("GET", path, query=query))
            self._access.seen(self.type, names)
            for item in elements(answer.body, "results"):
                yield record_of(item, self.type, names)
            after = next_page(answer.body)
            if not after:
                return
            query = {**query, "after": after}

    async def create(self, properties: Properties, *, to: Mapping[str, Iterable[str]] | None = None) -> str:
        """Make an object and return its id.

        Args:
            to: records that it belongs to, ids by type: `{"contact": ("101",)}`.

        Raises:
            Conflict: there is one already; `existing_id` names it where HubSpot does.
            InvalidRequest: a value is not fit to be written, see `spokes.crm.validation`; nothing was sent.
        """
        texts = self._checked("create", properties)
        creation = {"properties": texts, "associations": on_create(self.type, to or {})}
        lane = self._exchange.creations(self._access.portal_id, self.service)
        return (await self._write("create", "", texts, self._joining(lane, uuid4().hex, creation))).object_id

    async def create_many(self, items: Iterable[New]) -> Fates[str]:
        """Make many; the `result` of each fate is the new id."""
        self._access.require(f"{self.service}.create")
        return await fates_of(("", self.create(item.properties, to=item.to)) for item in items)

    async def update(self, object_id: str, properties: Properties | None = None, /, **more: Value) -> None:
        """Set properties, by mapping or by name; an empty value clears.

        What was read before is written to under the id it had then, and to no other that it was merged into since.

        Raises:
            InvalidRequest: a value is not fit to be written, see `spokes.crm.validation`; nothing was sent.
            ObjectMerged: it was merged into another record since it was read.
        """
        texts = self._checked("update", {**(properties or {}), **more})
        if texts:
            read = self._access.read_as.get((self.type, object_id))
            to = read.id if read else object_id
            lane, update = self._exchange.updates(self._access.portal_id, self.service), Update(texts, read is None)
            await self._write("update", to, texts, self._joining(lane, to, update), read=read)

    async def update_many(self, items: Iterable[tuple[str, Properties]]) -> Fates[None]:
        """Set properties of many, each by its id."""
        self._access.require(f"{self.service}.update")
        return await fates_of((object_id, self.update(object_id, properties)) for object_id, properties in items)

    async def upsert(self, property_name: str, value: str, properties: Properties) -> str:
        """Set properties of the object that has `value` in a unique property, or make it; return its id.

        A contact's `email` is unique but does not serve for setting only some properties of one: HubSpot's docs,
        "Contacts guide".
        """
        texts = self._checked("upsert", properties)
        value = self._checked("upsert", {property_name: value})[property_name]
        lane = self._exchange.upserts(self._access.portal_id, self.service, property_name)
        return (await self._write("upsert", "", texts, self._joining(lane, value, texts))).object_id

    async def upsert_many(self, property_name: str, items: Iterable[tuple[str, Properties]]) -> Fates[str]:
        """Set properties of many by a unique property, or make them; the `result` of each fate is the object's id."""
        self._access.require(f"{self.service}.upsert")
        return await fates_of((value, self.upsert(property_name, value, properties)) for value, properties in items)

    async def archive(self, object_id: str) -> None:
        """Put an object into the recycle bin; it can be restored for 90 days. One that is gone already is no error."""
        lane = self._exchange.archivings(self._access.portal_id, self.service)
        await self._write("archive", object_id, {}, self._joining(lane, object_id, None))

    async def archive_many(self, object_ids: Iterable[str]) -> Fates[None]:
        """Put many into the recycle bin."""
        self._access.require(f"{self.service}.archive")
        return await fates_of((i, self.archive(i)) for i in object_ids)

    async def merge(self, primary_id: str, other_id: str) -> str:
        """Fold one record into another, for good; return the id of the survivor, which may be a new one."""

        async def change() -> Done:
            body = {"primaryObjectId": primary_id, "objectIdToMerge": other_id}
            path = self._exchange.paths.objects(self.service, "merge")
            answer = await self._access.send(Request("POST", path, body=body))
            if not (survivor := text_id(answer.body.get("id"))):
                raise CRMUnavailable(status=answer.status, correlation_id=answer.correlation_id)
            return Done(survivor, answer.correlation_id)

        return (await self._write("merge", primary_id, {}, change)).object_id

    async def _read(self, input_id: str, id_property: str) -> Record:
        names = self._access.properties(self.service)
        lane = self._exchange.reads(self._access.portal_id, self.service, id_property)
        record = record_of(await lane.get(input_id, names, self._access.priority), self.type, names)
        self._access.seen(self.type, names)
        self._access.read_as[self.type, record.id if id_property else input_id] = record
        return record

    def _checked(self, name: str, properties: Properties) -> dict[str, str]:
        self._access.require(f"{self.service}.{name}")
        return checked(self.type, properties, self._exchange.rules)

    def _joining(self, lane: Lane[Want, Done], input_id: str, want: Want) -> Callable[[], Awaitable[Done]]:
        """Return what makes a change by joining a batch of its lane."""
        return partial(lane.join, input_id, want, self._access.priority, self._access.still)

    async def _write(
        self,
        name: str,
        object_id: str,
        texts: Mapping[str, str],
        change: Callable[[], Awaitable[Done]],
        *,
        read: Record | None = None,
    ) -> Done:
        method = f"{self.service}.{name}"
        return await self._access.write(method, self.type, object_id, texts, change, read=read)


async def all_properties(access: Access, object_type: str) -> tuple[str, ...] | None:
    """Return the names of all properties of a type; None where HubSpot does not tell them.

    Raises:
        TransientCRMError: it may tell them later.
    """
    try:
        answer = await access.send(Request("GET", access.exchange.paths.properties(object_type)))
    except PermanentCRMError:
        return None
    names = (text_id(item.get("name")) for item in elements(answer.body, "results"))
    return tuple(name for name in names if name) or None
