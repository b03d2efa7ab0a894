"""Read, search and write objects of any type.

Ids and values are text. Each method submits one input to a batch, so concurrent callers share calls; `*_many` submits
many inputs and returns a result for each. `spokes.crm.access` makes the writes.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4

from spokes.core.errors import CRMUnavailable, PermanentCRMError
from spokes.crm.access import HandlerAccess, UnbatchedWriter, Write
from spokes.crm.associations import associations_for_create
from spokes.crm.batching.association_reads import next_cursor
from spokes.crm.batching.updates import PropertyUpdate
from spokes.crm.listed_records import ID_ONLY, read_listed
from spokes.crm.object_types import plural, singular
from spokes.crm.records import Record, parse_record
from spokes.crm.results import ItemResult, ItemResults, WriteReceipt, gather_results, pairs_of, texts_of
from spokes.crm.search import Condition, Search, where
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.paths import fits_in_url
from spokes.crm.transport.response_json import elements, text_id
from spokes.crm.values.object_ids import read_id
from spokes.crm.values.property_values import Value, is_midnight_elsewhere
from spokes.crm.values.validation import validate_properties

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

__all__ = ["Condition", "ItemResult", "ItemResults", "New", "Objects", "Record", "where"]

_PAGE_SIZE: Final = 100
Properties = Mapping[str, Value]


class New(NamedTuple):
    """An object to create: its properties, and the records to associate it with, ids by type."""

    properties: Properties
    to: Mapping[str, Iterable[str]] | None = None


class Objects:
    """Objects of one type, as one handler may read and write them."""

    def __init__(self, access: HandlerAccess, object_type: str) -> None:
        """Serve `object_type`: by name, singular or plural, or by id, such as `2-123`."""
        self.service = plural(object_type)
        self.type = singular(object_type)
        self._access = access
        self._queues = access.queues

    async def get(self, object_id: str) -> Record:
        """Read an object: the declared properties and `hs_object_id`. The id of a merged record reads its survivor.

        Raises:
            NotPermitted: no property of the type was declared.
            ObjectNotFound: there is no such object, or it is archived.
        """
        return await self._read(object_id, "")

    async def get_by(self, property_name: str, value: str) -> Record:
        """Read the object that has `value` in a unique property, such as a contact's email."""
        return await self._read(value, property_name)

    async def get_many(self, object_ids: Iterable[str]) -> ItemResults[Record]:
        """Read many objects; the `result` of each item is the record."""
        self._access.declared_properties(self.service)
        return await gather_results((str(i), self.get(i)) for i in texts_of(object_ids))

    async def get_many_by(self, property_name: str, values: Iterable[str]) -> ItemResults[Record]:
        """Read many objects by a unique property; the `id` of each item is the value it was read by."""
        self._access.declared_properties(self.service)
        return await gather_results((str(value), self.get_by(property_name, value)) for value in texts_of(values))

    async def search(
        self, condition: Condition | None = None, *, text: str = "", sort: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        """Return at most `limit` matching objects. HubSpot's search index lags some seconds behind writes.

        Args:
            condition: `where("lifecyclestage").equals("lead") & where("phone").is_set()`; None matches all objects.
            text: words to find in HubSpot's default search properties.
            sort: a property; `-createdate` for the newest first.
            limit: at most 10,000; `search_all` has no such limit.

        Raises:
            InvalidRequest: the query exceeds HubSpot's limits; nothing was sent.
        """
        return await Search(self._access, self.service).first(condition, text, sort, limit)

    def search_all(self, condition: Condition | None = None, *, text: str = "") -> AsyncIterator[Record]:
        """Iterate over all matching objects in the order of their ids, also beyond 10,000."""
        return Search(self._access, self.service).all(condition, text)

    async def list(self) -> AsyncIterator[Record]:
        """Iterate over all objects of the type, a hundred per call; per two calls if many properties are declared."""
        names = self._access.declared_properties(self.service)
        listed = names if (is_one_call := fits_in_url(names)) else ID_ONLY
        query: dict[str, str | Sequence[str]] = {"limit": str(_PAGE_SIZE), "properties": listed}
        path = self._queues.paths.objects(self.service)
        while True:
            response = await self._access.send(ApiRequest("GET", path, query=query))
            records: Sequence[Record] = [
                parse_record(item, self.type, listed) for item in elements(response.body, "results")
            ]
            if not is_one_call:
                records = await read_listed(self._access, records, names)
            self._access.context.on_read(self.type, names)
            for record in records:
                yield record
            after = next_cursor(response.body)
            if not after:
                return
            query = {**query, "after": after}

    async def create(self, properties: Properties, *, to: Mapping[str, Iterable[str]] | None = None) -> str:
        """Create an object and return its id.

        Args:
            to: records to associate it with, ids by type: `{"contact": ("101",)}`.

        Raises:
            Conflict: the object exists; `existing_id` is its id if HubSpot names it.
            InvalidRequest: a value fails validation, see `spokes.crm.values.validation`; nothing was sent.
        """
        self._check_declared("create")
        return await self._create(properties, to)

    async def create_many(self, items: Iterable[New]) -> ItemResults[str]:
        """Create many objects; the `result` of each item is the new id."""
        self._check_declared("create")
        return await gather_results(("", self._create(item.properties, item.to)) for item in items)

    async def update(self, object_id: str, properties: Properties | None = None, /, **more: Value) -> None:
        """Set properties, by mapping or by name; an empty value clears.

        If the object was read before, the write goes to the id it had then, not to a record it was merged into since.

        Raises:
            InvalidRequest: a value fails validation, see `spokes.crm.values.validation`; nothing was sent.
            ObjectMerged: the object was merged into another record since it was read.
        """
        self._check_declared("update")
        await self._update(object_id, {**(properties or {}), **more})

    async def update_many(
        self, items: Mapping[str, Properties] | Iterable[tuple[str, Properties]]
    ) -> ItemResults[None]:
        """Set properties of many objects, each by its id: `{"101": {"phone": ""}}`, or pairs of id and properties."""
        self._check_declared("update")
        return await gather_results(
            (str(object_id), self._update(object_id, properties)) for object_id, properties in pairs_of(items)
        )

    async def upsert(self, property_name: str, value: str, properties: Properties) -> str:
        """Set properties of the object that has `value` in a unique property, or create it; return its id.

        By a contact's `email`, HubSpot supports no upsert of only some properties: HubSpot's docs, "Contacts guide".
        """
        self._check_declared("upsert")
        return await self._upsert(property_name, value, properties)

    async def upsert_many(
        self, property_name: str, items: Mapping[str, Properties] | Iterable[tuple[str, Properties]]
    ) -> ItemResults[str]:
        """Set properties of many objects by a unique property, or create them; each `result` is the object's id.

        `items` are properties by the property's value, or pairs of both.
        """
        self._check_declared("upsert")
        return await gather_results(
            (value, self._upsert(property_name, value, properties)) for value, properties in pairs_of(items)
        )

    async def archive(self, object_id: str) -> None:
        """Move an object to the recycle bin, from which it can be restored for 90 days. No error if it is gone."""
        self._check_declared("archive")
        await self._archive(object_id)

    async def archive_many(self, object_ids: Iterable[str]) -> ItemResults[None]:
        """Move many objects to the recycle bin."""
        self._check_declared("archive")
        return await gather_results((str(i), self._archive(i)) for i in texts_of(object_ids))

    async def merge(self, primary_id: str, other_id: str) -> str:
        """Merge one record into another, irreversibly; return the id of the survivor, which may be a new one."""
        self._check_declared("merge")
        primary_id, other_id = read_id(primary_id), read_id(other_id)
        body = {"primaryObjectId": primary_id, "objectIdToMerge": other_id}
        request = ApiRequest("POST", self._queues.paths.objects(self.service, "merge"), body=body)
        write = Write(f"{self.service}.merge", self.type, primary_id)
        return (await self._access.perform(write, _Merger(self._access), primary_id, request)).object_id

    async def _create(self, properties: Properties, to: Mapping[str, Iterable[str]] | None) -> str:
        texts = await self._validated(properties)
        creation = {"properties": texts, "associations": associations_for_create(self.type, to or {})}
        queue = self._queues.creations(self._access.portal_id, self.service)
        write = Write(f"{self.service}.create", self.type, "", texts)
        return (await self._access.perform(write, queue, uuid4().hex, creation)).object_id

    async def _update(self, object_id: str, properties: Properties) -> None:
        object_id = read_id(object_id)
        texts = await self._validated(properties)
        if not texts:
            return
        read = self._access.last_read(self.type, object_id)
        target_id = read.id if read else object_id
        queue = self._queues.updates(self._access.portal_id, self.service)
        write = Write(f"{self.service}.update", self.type, target_id, texts, read)
        await self._access.perform(write, queue, target_id, PropertyUpdate(texts, follow_merge=read is None))

    async def _upsert(self, property_name: str, value: str, properties: Properties) -> str:
        texts = await self._validated(properties)
        unique_value = read_id((await self._validated({property_name: value}))[property_name])
        queue = self._queues.upserts(self._access.portal_id, self.service, property_name)
        write = Write(f"{self.service}.upsert", self.type, "", texts)
        return (await self._access.perform(write, queue, unique_value, texts)).object_id

    async def _archive(self, object_id: str) -> None:
        object_id = read_id(object_id)
        queue = self._queues.archives(self._access.portal_id, self.service)
        await self._access.perform(Write(f"{self.service}.archive", self.type, object_id), queue, object_id, None)

    async def _read(self, input_id: str, id_property: str) -> Record:
        names, input_id = self._access.declared_properties(self.service), read_id(input_id)
        queue = self._queues.reads(self._access.portal_id, self.service, id_property)
        record = parse_record(await queue.get(input_id, names, self._access.context.priority), self.type, names)
        self._access.context.on_read(self.type, names)
        self._access.remember_read(record.id if id_property else input_id, record)
        return record

    def _check_declared(self, name: str) -> None:
        self._access.check_declared(f"{self.service}.{name}")

    async def _validated(self, properties: Properties) -> dict[str, str]:
        if any(map(is_midnight_elsewhere, properties.values())):
            portal_id, context = self._access.portal_id, self._access.context
            properties = await self._queues.schemas.with_own_days(portal_id, self.type, properties, context)
        return validate_properties(self.type, properties, self._queues.rules_for(self._access.portal_id))


class _Merger(UnbatchedWriter):
    """Merges two records; the response names the survivor."""

    def receipt(self, input_id: str, response: "ApiResponse") -> WriteReceipt:
        del input_id
        if not (survivor_id := text_id(response.body.get("id"))):
            raise CRMUnavailable(status=response.status, correlation_id=response.correlation_id)
        return WriteReceipt(survivor_id, response.correlation_id)


async def fetch_property_names(access: HandlerAccess, object_type: str) -> tuple[str, ...] | None:
    """Return the names of all properties that the portal has of a type; None if HubSpot refuses to list them.

    Source: HubSpot's docs, "Properties API".

    Raises:
        TransientCRMError: HubSpot cannot answer now.
    """
    try:
        response = await access.send(ApiRequest("GET", access.queues.paths.properties(object_type)))
    except PermanentCRMError:
        return None
    names = (text_id(item.get("name")) for item in elements(response.body, "results"))
    return tuple(name for name in names if name) or None
