"""Objects of any type. Rule: ids and values are text; a property that was not read is an error, not an empty value."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from core.errors import CRMUnavailable
from crm.access import Access, Done
from crm.association_reads import next_page
from crm.association_types import on_create
from crm.batches import elements, text_id
from crm.calls import Request
from crm.faults import Json, fault_of_entry
from crm.types import plural, singular
from crm.validation import Value, property_text

Filter: TypeAlias = tuple[str, str, str | Sequence[str]]  # property, operator of HubSpot's, value or values

_PAGE: Final = 100
_SEARCH_PAGE: Final = 200
_VALUELESS: Final = frozenset({"HAS_PROPERTY", "NOT_HAS_PROPERTY"})


@dataclass(frozen=True, slots=True)
class Record:
    """One object as it was read; `type` in the singular, as events name it."""

    id: str
    type: str
    properties: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """Return a property's value, empty when it is unset.

        Raises:
            KeyError: it was not asked for, so whether it is set is not known.
        """
        try:
            return self.properties[name]
        except KeyError:
            raise KeyError(
                f"{name} was not read: declare it among the properties that are read of {self.type}"
            ) from None


class Objects:
    """Objects of one type, as one handler may see and change them."""

    def __init__(self, access: Access, object_type: str) -> None:
        """Serve `object_type`: by name, singular or plural, or by id, such as `2-123`."""
        self.service = plural(object_type)
        self.type = singular(object_type)
        self._access = access
        self._exchange = access.exchange

    async def get(self, object_id: str) -> Record:
        """Read an object: the declared properties and `hs_object_id`.

        Raises:
            NotPermitted: no property of the type was declared.
            ObjectNotFound: there is none, or it is archived.
        """
        return await self._read(object_id, "")

    async def get_by(self, property_name: str, value: str) -> Record:
        """Read the object that has `value` in a unique property, such as a contact's email."""
        return await self._read(value, property_name)

    async def search(self, *filters: Filter, query: str = "", sort: str = "", limit: int = 100) -> tuple[Record, ...]:
        """Find objects that pass all filters, at most `limit`, as the search index knew them some seconds ago.

        Args:
            filters: `("lifecyclestage", "EQ", "lead")`, `("email", "IN", ("a@b.c",))`, `("phone", "HAS_PROPERTY", "")`.
            sort: a property; `-createdate` for the newest first.

        Source: HubSpot's docs, "Search the CRM": 10,000 results at most, text for IN in lower case.
        """
        names = self._access.properties(self.service)
        body: dict[str, object] = {"properties": list(names), "limit": min(limit, _SEARCH_PAGE)}
        if filters:
            body["filterGroups"] = [{"filters": [_filter(*given) for given in filters]}]
        if query:
            body["query"] = query
        if sort:
            direction = "DESCENDING" if sort.startswith("-") else "ASCENDING"
            body["sorts"] = [{"propertyName": sort.removeprefix("-"), "direction": direction}]
        path = self._exchange.paths.objects(self.service, "search")
        found: list[Record] = []
        while True:
            answer = await self._exchange.calls.send(
                self._access.portal_id, Request("POST", path, body=body), kind="search"
            )
            found += [self._record(item, names) for item in elements(answer.body, "results")]
            after = next_page(answer.body)
            if not after or len(found) >= limit:
                return tuple(found[:limit])
            body = {**body, "after": after}

    async def list(self) -> AsyncIterator[Record]:
        """Go through all objects of the type, a page of a hundred at a time."""
        names = self._access.properties(self.service)
        query: dict[str, str | Sequence[str]] = {"limit": str(_PAGE), "properties": names}
        path = self._exchange.paths.objects(self.service)
        while True:
            answer = await self._exchange.calls.send(self._access.portal_id, Request("GET", path, query=query))
            for item in elements(answer.body, "results"):
                yield self._record(item, names)
            after = next_page(answer.body)
            if not after:
                return
            query = {**query, "after": after}

    async def create(self, properties: Mapping[str, Value], *, to: Mapping[str, Iterable[str]] | None = None) -> str:
        """Make an object and return its id.

        Args:
            to: records that it belongs to, ids by type: `{"contact": ("101",)}`.

        Raises:
            Conflict: there is one already; `existing_id` names it where HubSpot does.
        """
        texts = _texts(properties)
        body = {"properties": texts, "associations": on_create(self.type, to or {})}
        request = Request("POST", self._exchange.paths.objects(self.service), body=body)
        return (await self._write("create", "", texts, request)).object_id

    async def update(self, object_id: str, properties: Mapping[str, Value] | None = None, /, **more: Value) -> None:
        """Set properties, by mapping or by name; an empty value clears. Updates of many callers share a batch."""
        texts = _texts({**(properties or {}), **more})
        if not texts:
            self._access.require(f"{self.service}.update")
            return

        async def change() -> Done:
            lane = self._exchange.updates(self._access.portal_id, self.service)
            return Done(object_id, await lane.join(object_id, texts))

        await self._access.write(f"{self.service}.update", self.type, object_id, texts, change)

    async def upsert(self, property_name: str, value: str, properties: Mapping[str, Value]) -> str:
        """Set properties of the object that has `value` in a unique property, or make it; return its id.

        A contact's `email` is unique but does not serve for setting only some properties of one: HubSpot's docs,
        "Contacts guide".
        """
        texts = _texts(properties)
        body = {"inputs": [{"id": value, "idProperty": property_name, "properties": texts}]}
        request = Request("POST", self._exchange.paths.objects(self.service, "batch", "upsert"), body=body)
        return (await self._write("upsert", "", texts, request)).object_id

    async def archive(self, object_id: str) -> None:
        """Put an object into the recycle bin; it can be restored for 90 days."""
        request = Request("DELETE", self._exchange.paths.objects(self.service, object_id))
        await self._write("archive", object_id, {}, request)

    async def _read(self, input_id: str, id_property: str) -> Record:
        names = self._access.properties(self.service)
        item = await self._exchange.reads(self._access.portal_id, self.service, id_property).get(input_id, names)
        return self._record(item, names)

    def _record(self, item: Json, names: Iterable[str]) -> Record:
        given = item.get("properties")
        values = given if isinstance(given, Mapping) else {}
        object_id = text_id(item.get("id"))
        texts = {name: text_id(values.get(name)) for name in names}
        return Record(object_id, self.type, {**texts, "hs_object_id": object_id})

    async def _write(self, name: str, object_id: str, texts: Mapping[str, str], request: Request) -> Done:
        async def change() -> Done:
            answer = await self._exchange.calls.send(self._access.portal_id, request)
            return Done(object_id or made_id(answer.body), answer.correlation_id)

        return await self._access.write(f"{self.service}.{name}", self.type, object_id, texts, change)


def made_id(body: Json) -> str:
    """The id of what a create or a batch of one has made.

    Raises:
        CRMError: HubSpot refused it, or named none.
    """
    if errors := elements(body, "errors"):
        raise fault_of_entry(errors[0])
    item = next(iter(elements(body, "results")), body)
    object_id = text_id(item.get("id"))
    if not object_id:
        raise CRMUnavailable
    return object_id


def _texts(properties: Mapping[str, Value]) -> dict[str, str]:
    return {name: property_text(value) for name, value in properties.items()}


def _filter(property_name: str, operator: str, value: str | Sequence[str]) -> dict[str, object]:
    given: dict[str, object] = {"propertyName": property_name, "operator": operator}
    if operator in _VALUELESS:
        return given
    if isinstance(value, str):
        return {**given, "value": value}
    if operator == "BETWEEN":
        low, high = value
        return {**given, "value": low, "highValue": high}
    return {**given, "values": list(value)}
