"""Searches over the records of one type. Rule: what HubSpot would refuse is refused before it is sent.

The index lags some seconds behind writes and holds no archived records. Source: HubSpot's docs, "Search the CRM".

What a search looks for: `where("lifecyclestage").equals("lead") & where("phone").is_set()`. Rule: pure, no strings.

`&` and `|` join conditions; HubSpot takes an OR of ANDs, into which they are multiplied out.
Source: HubSpot's docs, "Search the CRM".
"""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from spokes.core.errors import InvalidRequest
from spokes.crm.access import HandlerAccess
from spokes.crm.batching.association_reads import next_cursor
from spokes.crm.object_types import plural, singular
from spokes.crm.records import Record, parse_record
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.response_json import elements
from spokes.crm.validation import Value, property_text

Filter = dict[str, object]  # one element of `filters`, as HubSpot takes it


@dataclass(frozen=True, slots=True)
class Condition:
    """An OR of groups, each an AND of filters."""

    groups: tuple[tuple[Filter, ...], ...]

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(tuple(one + another for one in self.groups for another in other.groups))

    def __or__(self, other: "Condition") -> "Condition":
        return Condition(self.groups + other.groups)


@dataclass(frozen=True, slots=True)
class where:  # noqa: N801 - reads as the word it is: where("email").is_set()
    """A property, about which a condition is made. Values go as a write would send them; moments as ISO 8601."""

    name: str

    def equals(self, value: Value) -> Condition:
        """It is `value`."""
        return self._condition("EQ", value=property_text(value))

    def not_equals(self, value: Value) -> Condition:
        """It is not `value`, or unset."""
        return self._condition("NEQ", value=property_text(value))

    def less_than(self, value: Value) -> Condition:
        """It is below, or before."""
        return self._condition("LT", value=property_text(value))

    def at_most(self, value: Value) -> Condition:
        """It is not above, or not after."""
        return self._condition("LTE", value=property_text(value))

    def more_than(self, value: Value) -> Condition:
        """It is above, or after."""
        return self._condition("GT", value=property_text(value))

    def at_least(self, value: Value) -> Condition:
        """It is not below, or not before."""
        return self._condition("GTE", value=property_text(value))

    def between(self, low: Value, high: Value) -> Condition:
        """It is neither below `low` nor above `high`."""
        return self._condition("BETWEEN", value=property_text(low), highValue=property_text(high))

    def is_one_of(self, values: Iterable[Value]) -> Condition:
        """It is one of `values`."""
        return self._condition("IN", values=_list_operands(values))

    def is_none_of(self, values: Iterable[Value]) -> Condition:
        """It is none of `values`."""
        return self._condition("NOT_IN", values=_list_operands(values))

    def is_set(self) -> Condition:
        """It has a value."""
        return self._condition("HAS_PROPERTY")

    def is_unset(self) -> Condition:
        """It has none."""
        return self._condition("NOT_HAS_PROPERTY")

    def contains_token(self, token: str) -> Condition:
        """One of its words is `word`; `*` stands for any letters: `*@example.org`."""
        return self._condition("CONTAINS_TOKEN", value=token)

    def not_contains_token(self, token: str) -> Condition:
        """None of its words is `word`."""
        return self._condition("NOT_CONTAINS_TOKEN", value=token)

    def _condition(self, operator: str, **operands: object) -> Condition:
        return Condition((({"propertyName": self.name, "operator": operator, **operands},),))


def _list_operands(values: Iterable[Value]) -> list[str]:
    """Values of a list: HubSpot compares texts in lower case there, and enumerations as they are; so both are given."""
    texts = [property_text(value) for value in values]
    return list(dict.fromkeys([*texts, *(text.lower() for text in texts)]))


MAX_RESULTS: Final = 10_000  # that one query gives away, page after page
_PAGE_SIZE: Final = 200
_MAX_GROUPS: Final = 5
_MAX_FILTERS_PER_GROUP: Final = 6
_MAX_FILTERS: Final = 18
_MAX_BODY_CHARS: Final = 3_000  # characters
_MATCH_ALL: Final = Condition(((),))


class Search:
    """Finds objects of one type for one handler."""

    def __init__(self, access: HandlerAccess, object_type: str) -> None:
        self._access = access
        self._type = singular(object_type)
        self._names = access.declared_properties(plural(object_type))
        self._path = access.queues.paths.objects(object_type, "search")

    async def first(self, condition: Condition | None, text: str, sort: str, limit: int) -> tuple[Record, ...]:
        """Return at most `limit` of what is found, page after page.

        Raises:
            InvalidRequest: the query is more than HubSpot takes; `category` says of what.
        """
        if limit > MAX_RESULTS:
            raise InvalidRequest(category="SEARCH_RESULTS")
        found: list[Record] = []
        after = "0"
        while after and len(found) < limit:
            page, after = await self._page(condition or _MATCH_ALL, text, sort, min(limit, _PAGE_SIZE), after)
            found += page
        return tuple(found[:limit])

    async def all(self, condition: Condition | None, text: str) -> AsyncIterator[Record]:
        """Go through all that is found, however many: each page is a query of its own for higher ids.

        Raises:
            InvalidRequest: the query is more than HubSpot takes; the window needs one filter in every group.
        """
        seen, more = "0", "0"
        while more:
            window = (condition or _MATCH_ALL) & where("hs_object_id").more_than(seen)
            page, more = await self._page(window, text, "hs_object_id", _PAGE_SIZE, "0")
            for record in page:
                yield record
                seen = record.id

    async def _page(
        self, condition: Condition, text: str, sort: str, limit: int, after: str
    ) -> tuple[list[Record], str]:
        body = search_body(condition, text=text, sort=sort, properties=self._names, limit=limit, after=after)
        answer = await self._access.send(ApiRequest("POST", self._path, body=body), "search")
        self._access.on_read(self._type, self._names)
        page = [parse_record(item, self._type, self._names) for item in elements(answer.body, "results")]
        return page, next_cursor(answer.body) if page else ""


def search_body(
    condition: Condition, *, text: str, sort: str, properties: Sequence[str], limit: int, after: str
) -> dict[str, object]:
    """Return the body of a search.

    Args:
        sort: a property, with - in front for the highest first; none when empty.
        after: how many results to pass over, as text; "0" for none.

    Raises:
        InvalidRequest: `category` is SEARCH_GROUPS, SEARCH_FILTERS or SEARCH_BODY.
    """
    groups = [group for group in condition.groups if group]
    if len(groups) > _MAX_GROUPS:
        raise InvalidRequest(category="SEARCH_GROUPS")
    if any(len(group) > _MAX_FILTERS_PER_GROUP for group in groups) or sum(map(len, groups)) > _MAX_FILTERS:
        raise InvalidRequest(category="SEARCH_FILTERS")
    body: dict[str, object] = {"properties": list(properties), "limit": limit}
    if len(groups) == len(condition.groups):  # an empty group lets everything pass, whatever stands beside it
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
