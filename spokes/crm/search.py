"""Searches over the records of one type, and the conditions they take.

`where("lifecyclestage").equals("lead") & where("phone").is_set()`: `&` and `|` join conditions; HubSpot takes an OR of
ANDs, so they are multiplied out. A query that exceeds HubSpot's limits is refused before it is sent. The search index
lags some seconds behind writes and holds no archived records. Source: HubSpot's docs, "Search the CRM".
"""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from spokes.core.deprecation import DeprecatedAlias
from spokes.core.errors import InvalidRequest
from spokes.crm.access import HandlerAccess
from spokes.crm.batching.association_reads import next_cursor
from spokes.crm.listed_records import ID_ONLY, read_listed
from spokes.crm.object_types import plural, singular
from spokes.crm.records import Record, parse_record
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.response_json import elements
from spokes.crm.values.property_values import Value, property_text

Filter = dict[str, object]  # one element of `filters`, as HubSpot takes it


@dataclass(frozen=True, slots=True)
class Condition:
    """An OR of groups, each an AND of filters."""

    groups: tuple[tuple[Filter, ...], ...]

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(tuple(group + other_group for group in self.groups for other_group in other.groups))

    def __or__(self, other: "Condition") -> "Condition":
        return Condition(self.groups + other.groups)


@dataclass(frozen=True, slots=True)
class where:  # noqa: N801 - reads as the word it is: where("email").is_set()
    """A property that a condition is about. Values are converted as for a write; timestamps become ISO 8601."""

    name: str

    differs_from = DeprecatedAlias("not_equals")
    has_word = DeprecatedAlias("contains_token")
    lacks_word = DeprecatedAlias("not_contains_token")

    def equals(self, value: Value) -> Condition:
        """The property is `value`."""
        return self._condition("EQ", value=property_text(value))

    def not_equals(self, value: Value) -> Condition:
        """The property is not `value`, or is unset."""
        return self._condition("NEQ", value=property_text(value))

    def less_than(self, value: Value) -> Condition:
        """The property is below `value`, or before it."""
        return self._condition("LT", value=property_text(value))

    def at_most(self, value: Value) -> Condition:
        """The property is `value`, or below or before it."""
        return self._condition("LTE", value=property_text(value))

    def more_than(self, value: Value) -> Condition:
        """The property is above `value`, or after it."""
        return self._condition("GT", value=property_text(value))

    def at_least(self, value: Value) -> Condition:
        """The property is `value`, or above or after it."""
        return self._condition("GTE", value=property_text(value))

    def between(self, low: Value, high: Value) -> Condition:
        """The property is between `low` and `high`, both included."""
        return self._condition("BETWEEN", value=property_text(low), highValue=property_text(high))

    def is_one_of(self, values: Iterable[Value]) -> Condition:
        """The property is one of `values`."""
        return self._condition("IN", values=_list_operands(values))

    def is_none_of(self, values: Iterable[Value]) -> Condition:
        """The property is none of `values`."""
        return self._condition("NOT_IN", values=_list_operands(values))

    def is_set(self) -> Condition:
        """The property has a value."""
        return self._condition("HAS_PROPERTY")

    def is_unset(self) -> Condition:
        """The property has no value."""
        return self._condition("NOT_HAS_PROPERTY")

    def contains_token(self, token: str) -> Condition:
        """One of the property's words is `token`; `*` matches any letters: `*@example.org`."""
        return self._condition("CONTAINS_TOKEN", value=token)

    def not_contains_token(self, token: str) -> Condition:
        """None of the property's words is `token`."""
        return self._condition("NOT_CONTAINS_TOKEN", value=token)

    def _condition(self, operator: str, **operands: object) -> Condition:
        return Condition((({"propertyName": self.name, "operator": operator, **operands},),))


def _list_operands(values: Iterable[Value]) -> list[str]:
    """Return the values of a list operator, as they are and in lower case.

    HubSpot compares texts in lower case there, and enumerations as they are. A single text is one value.
    """
    texts = [property_text(value) for value in ((values,) if isinstance(values, str) else values)]
    return list(dict.fromkeys([*texts, *(text.lower() for text in texts)]))


MAX_RESULTS: Final = 10_000  # of one query, over all its pages
_PAGE_SIZE: Final = 200
_MAX_GROUPS: Final = 5
_MAX_FILTERS_PER_GROUP: Final = 6
_MAX_FILTERS: Final = 18
_MAX_BODY_CHARS: Final = 3_000
_MAX_NAMES_CHARS: Final = 1_500  # of them; the conditions need the rest
_MATCH_ALL: Final = Condition(((),))


class Search:
    """Searches objects of one type for one handler."""

    def __init__(self, access: HandlerAccess, object_type: str) -> None:
        self._access = access
        self._type = singular(object_type)
        self._names = access.declared_properties(plural(object_type))
        fits = len(json.dumps(self._names)) <= _MAX_NAMES_CHARS
        self._listed = (
            self._names if fits else ID_ONLY
        )  # properties that a search returns; the others are read after it
        self._path = access.queues.paths.objects(object_type, "search")

    async def first(self, condition: Condition | None, text: str, sort: str, limit: int) -> tuple[Record, ...]:
        """Return at most `limit` matching records, page after page.

        Raises:
            InvalidRequest: the query exceeds one of HubSpot's limits; `category` says which.
        """
        if limit > MAX_RESULTS:
            raise InvalidRequest(category="SEARCH_RESULTS")
        records: list[Record] = []
        after = "0"
        while after and len(records) < limit:
            page, after, _ = await self._page(condition or _MATCH_ALL, text, sort, min(limit, _PAGE_SIZE), after)
            records += page
        return tuple(records[:limit])

    async def all(self, condition: Condition | None, text: str) -> AsyncIterator[Record]:
        """Iterate over all matching records, however many: each page is a query of its own for higher ids.

        Raises:
            InvalidRequest: the query exceeds one of HubSpot's limits; the id takes one filter of every group.
        """
        last_id, after = "0", "0"
        while after:
            higher_ids = (condition or _MATCH_ALL) & where("hs_object_id").more_than(last_id)
            page, after, last_id = await self._page(higher_ids, text, "hs_object_id", _PAGE_SIZE, "0")
            for record in page:
                yield record

    async def _page(
        self, condition: Condition, text: str, sort: str, limit: int, after: str
    ) -> tuple[list[Record], str, str]:
        """Return the records of a page, the cursor of the next page, and the last id that the page lists."""
        body = search_body(condition, text=text, sort=sort, properties=self._listed, limit=limit, after=after)
        response = await self._access.send(ApiRequest("POST", self._path, body=body), "search")
        self._access.context.on_read(self._type, self._names)
        page = [parse_record(item, self._type, self._listed) for item in elements(response.body, "results")]
        last_id = page[-1].id if page else ""
        after = next_cursor(response.body) if page else ""
        if self._listed is not self._names:
            page = await read_listed(self._access, page, self._names)
        return page, after, last_id


def search_body(
    condition: Condition, *, text: str, sort: str, properties: Sequence[str], limit: int, after: str
) -> dict[str, object]:
    """Return the body of a search request.

    Args:
        sort: a property, with - in front for the highest first; empty for HubSpot's order.
        after: how many results to skip, as text; "0" for none.

    Raises:
        InvalidRequest: `category` is SEARCH_GROUPS, SEARCH_FILTERS or SEARCH_BODY.
    """
    groups = [group for group in condition.groups if group]
    if len(groups) > _MAX_GROUPS:
        raise InvalidRequest(category="SEARCH_GROUPS")
    if any(len(group) > _MAX_FILTERS_PER_GROUP for group in groups) or sum(map(len, groups)) > _MAX_FILTERS:
        raise InvalidRequest(category="SEARCH_FILTERS")
    body: dict[str, object] = {"properties": list(properties), "limit": limit}
    if len(groups) == len(condition.groups):  # an empty group matches everything, so the OR does too
        body["filterGroups"] = [{"filters": list(group)} for group in groups]
    if text:
        body["query"] = text
    if sort:
        direction = "DESCENDING" if sort.startswith("-") else "ASCENDING"
        body["sorts"] = [{"propertyName": sort.removeprefix("-"), "direction": direction}]
    if after != "0":
        body["after"] = after
    if len(json.dumps(body)) > _MAX_BODY_CHARS:  # as hubspot-api-client writes it, with spaces and \u escapes
        raise InvalidRequest(category="SEARCH_BODY")
    return body
