"""Search endpoint. Source of limits and operators: HubSpot's docs "Search the CRM".

Archived and erased records are not found; new ones only after the search lag.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Final

from spokes.simulator.api.call import Call, EndpointResponse
from spokes.simulator.api.parameters import cursor, objects_member, page_limit, text_member, texts_member
from spokes.simulator.crm.property_rules import as_text
from spokes.simulator.crm.records import CrmRecord, record_json
from spokes.simulator.errors import JsonObject, invalid_request

_MAX_PAGE_SIZE: Final = 200
_MAX_RESULTS: Final = 10_000
_MAX_GROUPS: Final = 5
_MAX_FILTERS_PER_GROUP: Final = 6
_MAX_FILTERS: Final = 18
_MAX_BODY_CHARS: Final = 3_000
_QUERY_PROPERTIES: Final = (
    "email",
    "firstname",
    "lastname",
    "phone",
    "company",
    "name",
    "domain",
    "dealname",
    "subject",
)


def search_objects(call: Call) -> EndpointResponse:
    """POST {type}/search."""
    if call.body_size() > _MAX_BODY_CHARS:
        raise invalid_request(f"The request body is longer than {_MAX_BODY_CHARS} characters.")
    body = call.json()
    groups = _filter_groups(body)
    limit = page_limit(as_text(body.get("limit")) or None, _MAX_PAGE_SIZE)
    after = cursor(as_text(body.get("after")))
    if after + limit > _MAX_RESULTS:
        raise invalid_request(f"Search returns at most {_MAX_RESULTS} results.")
    indexed_before_ms = call.log.at_ms - call.portal.config.search_lag_s * 1000
    matches = [
        record
        for record in call.portal.crm.records(call.object_type())
        if record.created_at_ms <= indexed_before_ms
        and _matches_query(record, as_text(body.get("query")))
        and (not groups or any(all(_matches_filter(record, f) for f in group) for group in groups))
    ]
    _sort(matches, body.get("sorts"))
    page = matches[after : after + limit]
    response: JsonObject = {
        "total": len(matches),
        "results": [record_json(r, texts_member(body, "properties")) for r in page],
    }
    if after + limit < len(matches):
        response["paging"] = {"next": {"after": str(after + limit)}}
    return EndpointResponse(HTTPStatus.OK, response)


def _filter_groups(body: JsonObject) -> list[list[JsonObject]]:
    groups = [objects_member(group, "filters") for group in objects_member(body, "filterGroups")]
    if len(groups) > _MAX_GROUPS:
        raise invalid_request(f"At most {_MAX_GROUPS} filterGroups are allowed.")
    if any(len(group) > _MAX_FILTERS_PER_GROUP for group in groups) or sum(map(len, groups)) > _MAX_FILTERS:
        raise invalid_request(f"At most {_MAX_FILTERS_PER_GROUP} filters per group and {_MAX_FILTERS} in all.")
    for group in groups:
        for filter_ in group:
            if text_member(filter_, "operator") not in _OPERATORS:
                raise invalid_request("A filter needs one of HubSpot's operators.")
            text_member(filter_, "propertyName")
    return groups


def _sort(records: list[CrmRecord], sorts: object) -> None:
    """Sort in place by the one sort HubSpot accepts; the default is oldest first."""
    name, descending = "createdate", False
    if isinstance(sorts, list) and sorts:
        if len(sorts) > 1:
            raise invalid_request("Only one sort is allowed.")
        first = sorts[0]
        if isinstance(first, dict):
            name, descending = text_member(first, "propertyName"), first.get("direction") == "DESCENDING"
        else:
            name = str(first)
    records.sort(key=lambda record: int(record.id))
    records.sort(key=lambda record: _sort_key(record.properties.get(name, "")), reverse=descending)


def _matches_query(record: CrmRecord, query: str) -> bool:
    if not query:
        return True
    texts = [record.properties.get(name, "").lower() for name in _QUERY_PROPERTIES]
    return all(any(word in text for text in texts) for word in query.lower().split())


def _matches_filter(record: CrmRecord, filter_: JsonObject) -> bool:
    value = record.properties.get(filter_["propertyName"], "")
    return _OPERATORS[filter_["operator"]](value, filter_)


def _sort_key(text: str) -> tuple[int, float, str]:
    """Return a sort key: numbers and timestamps before other texts."""
    number = _number(text)
    return (1, 0.0, text.lower()) if number is None else (0, number, "")


def _number(text: str) -> float | None:
    """Return a number, or a timestamp in epoch ms; None for other text."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp() * 1000
    except ValueError:
        return None


def _equal(value: str, expected: str) -> bool:
    number = _number(value)
    return value.lower() == expected.lower() or (number is not None and number == _number(expected))


def _operand(filter_: Mapping[str, object], name: str = "value") -> str:
    return as_text(filter_.get(name))


def _is_listed(value: str, filter_: JsonObject) -> bool:
    """Return whether `values` contains the value in lower case, as HubSpot requires, or exactly as stored."""
    values = filter_.get("values")
    expected = {as_text(item) for item in values} if isinstance(values, list) else set()
    return value.lower() in expected or value in expected


def _contains(value: str, filter_: JsonObject) -> bool:
    return _operand(filter_).strip("*").lower() in value.lower()


_OPERATORS: Final[Mapping[str, Callable[[str, JsonObject], bool]]] = {
    "EQ": lambda value, f: bool(value) and _equal(value, _operand(f)),
    "NEQ": lambda value, f: not _equal(value, _operand(f)),
    "LT": lambda value, f: bool(value) and _sort_key(value) < _sort_key(_operand(f)),
    "LTE": lambda value, f: bool(value) and _sort_key(value) <= _sort_key(_operand(f)),
    "GT": lambda value, f: bool(value) and _sort_key(value) > _sort_key(_operand(f)),
    "GTE": lambda value, f: bool(value) and _sort_key(value) >= _sort_key(_operand(f)),
    "BETWEEN": lambda value, f: (
        bool(value) and _sort_key(_operand(f)) <= _sort_key(value) <= _sort_key(_operand(f, "highValue"))
    ),
    "IN": lambda value, f: bool(value) and _is_listed(value, f),
    "NOT_IN": lambda value, f: bool(value) and not _is_listed(value, f),
    "HAS_PROPERTY": lambda value, _: bool(value),
    "NOT_HAS_PROPERTY": lambda value, _: not value,
    "CONTAINS_TOKEN": lambda value, f: bool(value) and _contains(value, f),
    "NOT_CONTAINS_TOKEN": lambda value, f: not _contains(value, f),
}
