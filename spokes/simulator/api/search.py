"""Search endpoint. Source of limits and operators: HubSpot's docs "Search the CRM".

Archived and erased records are not found. The index shows each record as it was before the search lag.
"""

import heapq
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final

from spokes.simulator.api.call import Call, EndpointResponse
from spokes.simulator.api.parameters import cursor, page_limit, text_member, texts_member
from spokes.simulator.api.search_filters import SearchFilter, check_property, read_filter_groups, sort_key
from spokes.simulator.crm.property_rules import as_text
from spokes.simulator.crm.records import CrmRecord, as_indexed, record_json
from spokes.simulator.errors import JsonObject, invalid_request

_MAX_PAGE_SIZE: Final = 200
_MAX_RESULTS: Final = 10_000
_MAX_BODY_CHARS: Final = 3_000
_DIRECTIONS: Final = ("ASCENDING", "DESCENDING")
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
    groups = read_filter_groups(call, body)
    limit = page_limit(as_text(body.get("limit")) or None, _MAX_PAGE_SIZE)
    after = cursor(as_text(body.get("after")))
    if after + limit > _MAX_RESULTS:
        raise invalid_request(f"Search returns at most {_MAX_RESULTS} results.")
    query, records = as_text(body.get("query")), call.portal.crm.records(call.object_type())
    if lag_s := call.portal.config.search_lag_s:
        indexed_at_ms = round(call.log.at_ms - lag_s * 1000)
        records = (known for record in records if (known := as_indexed(record, indexed_at_ms)) is not None)
    if query:
        records = (record for record in records if _matches_query(record, query))
    matches = _matching(call, records, groups)
    page = _first(call, matches, body.get("sorts"), after + limit)[after:]
    response: JsonObject = {
        "total": len(matches),
        "results": [record_json(r, texts_member(body, "properties")) for r in page],
    }
    if after + limit < len(matches):
        response["paging"] = {"next": {"after": str(after + limit)}}
    return EndpointResponse(HTTPStatus.OK, response)


def _matching(
    call: Call, records: Iterable[CrmRecord], groups: Sequence[Sequence[SearchFilter]]
) -> Sequence[CrmRecord]:
    """Return the records that match all filters of a group."""
    checks = [[each.check(call) for each in group] for group in groups]
    if len(checks) > 1:
        return [record for record in records if any(all(check(record) for check in group) for group in checks)]
    for check in checks[0] if checks else ():
        records = filter(check, records)
    return list(records)


def _first(call: Call, records: Sequence[CrmRecord], sorts: object, count: int) -> list[CrmRecord]:
    """Return the first records in the order of the one sort HubSpot accepts, by id within equals; default oldest first.

    Raises:
        HubSpotError: 400, it is no sort.
    """
    name, descending = "createdate", False
    if isinstance(sorts, list) and sorts:
        if len(sorts) > 1:
            raise invalid_request("Only one sort is allowed.")
        first = sorts[0]
        if isinstance(first, dict):
            name, direction = text_member(first, "propertyName"), as_text(first.get("direction")) or "ASCENDING"
            if direction not in _DIRECTIONS:
                raise invalid_request("The direction of a sort is ASCENDING or DESCENDING.")
            descending = direction == "DESCENDING"
        else:
            name = str(first)
        check_property(call, name)
    if name == "hs_object_id" and not descending:
        return heapq.nsmallest(count, records, key=_number_of)
    in_order = sorted(records, key=_number_of)
    return sorted(in_order, key=lambda record: sort_key(record.properties.get(name, "")), reverse=descending)[:count]


def _number_of(record: CrmRecord) -> int:
    return int(record.id)


def _matches_query(record: CrmRecord, query: str) -> bool:
    texts = [record.properties.get(name, "").lower() for name in _QUERY_PROPERTIES]
    return all(any(word in text for text in texts) for word in query.lower().split())
