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
from spokes.crm.access import HandlerAccess
from spokes.crm.associations import associations_for_create
from spokes.crm.batching.association_reads import next_cursor
from spokes.crm.batching.batch_queue import BatchQueue, Want
from spokes.crm.batching.updates import PropertyUpdate
from spokes.crm.object_types import plural, singular
from spokes.crm.records import Record, parse_record
from spokes.crm.results import ItemResult, ItemResults, WriteReceipt, gather_results
from spokes.crm.search import Condition, Search, where
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.response_json import elements, text_id
from spokes.crm.validation import Value, validate_properties

__all__ = ["Condition", "ItemResult", "ItemResults", "New", "Objects", "Record", "where"]

_PAGE_SIZE: Final = 100
Properties = Mapping[str, Value]


class New(NamedTuple):
    """An object to be made: its properties, and the records it belongs to, ids by type."""

    properties: Properties
    to: Mapping[str, Iterable[str]] | None = None


class Objects:
    """Objects of one type, as one handler may see and change them."""

    def __init__(self, access: HandlerAccess, object_type: str) -> None:
        """Serve `object_type`: by name, singular or plural, or by id, such as `2-123`."""
        self.service = plural(object_type)
        self.type = singular(object_type)
        self._access = access
        self._queues = access.queues

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

    async def get_many(self, object_ids: Iterable[str]) -> ItemResults[Record]:
        """Read many; the `result` of each fate is the record."""
        self._access.declared_properties(self.service)
        return await gather_results((i, self.get(i)) for i in object_ids)

    async def get_many_by(self, property_name: str, values: Iterable[str]) -> ItemResults[Record]:
        """Read many by a unique property; the `id` of each fate is the value that was asked for."""
        self._access.declared_properties(self.service)
        return await gather_results((value, self.get_by(property_name, value)) for value in values)

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
        names = self._access.declared_properties(self.service)
        query: dict[str, str | Sequence[str]] = {"limit": str(_PAGE_SIZE), "properties": names}
        path = self._queues.paths.objects(self.service)
        while True:
            answer = await self._access.send(ApiRequest("GET", path, query=query))
            self._access.on_read(self.type, names)
            for item in elements(answer.body, "results"):
                yield parse_record(item, self.type, names)
            after = next_cursor(answer.body)
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
        texts = self._validated("create", properties)
        creation = {"properties": texts, "associations": associations_for_create(self.type, to or {})}
        lane = self._queues.creations(self._access.portal_id, self.service)
        return (await self._write("create", "", texts, self._submit_to(lane, uuid4().hex, creation))).object_id

    async def create_many(self, items: Iterable[New]) -> ItemResults[str]:
        """Make many; the `result` of each fate is the new id."""
        self._access.check_declared(f"{self.service}.create")
        return await gather_results(("", self.create(item.properties, to=item.to)) for item in items)

    async def update(self, object_id: str, properties: Properties | None = None, /, **more: Value) -> None:
        """Set properties, by mapping or by name; an empty value clears.

        What was read before is written to under the id it had then, and to no other that it was merged into since.

        Raises:
            InvalidRequest: a value is not fit to be written, see `spokes.crm.validation`; nothing was sent.
            ObjectMerged: it was merged into another record since it was read.
        """
        texts = self._validated("update", {**(properties or {}), **more})
        if texts:
            read = self._access.records_read.get((self.type, object_id))
            to = read.id if read else object_id
            lane, update = (
                self._queues.updates(self._access.portal_id, self.service),
                PropertyUpdate(texts, read is None),
            )
            await self._write("update", to, texts, self._submit_to(lane, to, update), read=read)

    async def update_many(self, items: Iterable[tuple[str, Properties]]) -> ItemResults[None]:
        """Set properties of many, each by its id."""
        self._access.check_declared(f"{self.service}.update")
        return await gather_results((object_id, self.update(object_id, properties)) for object_id, properties in items)

    async def upsert(self, property_name: str, value: str, properties: Properties) -> str:
        """Set properties of the object that has `value` in a unique property, or make it; return its id.

        A contact's `email` is unique but does not serve for setting only some properties of one: HubSpot's docs,
        "Contacts guide".
        """
        texts = self._validated("upsert", properties)
        value = self._validated("upsert", {property_name: value})[property_name]
        lane = self._queues.upserts(self._access.portal_id, self.service, property_name)
        return (await self._write("upsert", "", texts, self._submit_to(lane, value, texts))).object_id

    async def upsert_many(self, property_name: str, items: Iterable[tuple[str, Properties]]) -> ItemResults[str]:
        """Set properties of many by a unique property, or make them; the `result` of each fate is the object's id."""
        self._access.check_declared(f"{self.service}.upsert")
        return await gather_results(
            (value, self.upsert(property_name, value, properties)) for value, properties in items
        )

    async def archive(self, object_id: str) -> None:
        """Put an object into the recycle bin; it can be restored for 90 days. One that is gone already is no error."""
        lane = self._queues.archives(self._access.portal_id, self.service)
        await self._write("archive", object_id, {}, self._submit_to(lane, object_id, None))

    async def archive_many(self, object_ids: Iterable[str]) -> ItemResults[None]:
        """Put many into the recycle bin."""
        self._access.check_declared(f"{self.service}.archive")
        return await gather_results((i, self.archive(i)) for i in object_ids)

    async def merge(self, primary_id: str, other_id: str) -> str:
        """Fold one record into another, for good; return the id of the survivor, which may be a new one."""

        async def change() -> WriteReceipt:
            body = {"primaryObjectId": primary_id, "objectIdToMerge": other_id}
            path = self._queues.paths.objects(self.service, "merge")
            answer = await self._access.send(ApiRequest("POST", path, body=body))
            if not (survivor := text_id(answer.body.get("id"))):
                raise CRMUnavailable(status=answer.status, correlation_id=answer.correlation_id)
            return WriteReceipt(survivor, answer.correlation_id)

        return (await self._write("merge", primary_id, {}, change)).object_id

    async def _read(self, input_id: str, id_property: str) -> Record:
        names = self._access.declared_properties(self.service)
        lane = self._queues.reads(self._access.portal_id, self.service, id_property)
        record = parse_record(await lane.get(input_id, names, self._access.priority), self.type, names)
        self._access.on_read(self.type, names)
        self._access.records_read[self.type, record.id if id_property else input_id] = record
        return record

    def _validated(self, name: str, properties: Properties) -> dict[str, str]:
        self._access.check_declared(f"{self.service}.{name}")
        return validate_properties(self.type, properties, self._queues.rules)

    def _submit_to(
        self, lane: BatchQueue[Want, WriteReceipt], input_id: str, want: Want
    ) -> Callable[[], Awaitable[WriteReceipt]]:
        """Return what makes a change by joining a batch of its lane."""
        return partial(lane.submit, input_id, want, self._access.priority, self._access.before_send)

    async def _write(
        self,
        name: str,
        object_id: str,
        texts: Mapping[str, str],
        change: Callable[[], Awaitable[WriteReceipt]],
        *,
        read: Record | None = None,
    ) -> WriteReceipt:
        method = f"{self.service}.{name}"
        return await self._access.perform(method, self.type, object_id, texts, change, read=read)


async def fetch_property_names(access: HandlerAccess, object_type: str) -> tuple[str, ...] | None:
    """Return the names of all properties of a type; None where HubSpot does not tell them.

    Raises:
        TransientCRMError: it may tell them later.
    """
    try:
        answer = await access.send(ApiRequest("GET", access.queues.paths.properties(object_type)))
    except PermanentCRMError:
        return None
    names = (text_id(item.get("name")) for item in elements(answer.body, "results"))
    return tuple(name for name in names if name) or None
