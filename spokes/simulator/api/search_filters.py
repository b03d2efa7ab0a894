"""Filters of the search endpoint: which HubSpot accepts, and which records match.

Source: HubSpot's docs "Search the CRM". Texts of list operators are compared in lower case, enumerations as they are.
Assumed: an unknown property and a missing operand are refused, and how a text is divided into tokens.
"""

import operator as operators
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from spokes.simulator.api.call import Call
from spokes.simulator.api.parameters import objects_member, text_member
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.crm.property_refusals import PropertyRefusal
from spokes.simulator.crm.property_rules import as_text
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.errors import JsonObject, invalid_properties, invalid_request

_MAX_GROUPS: Final = 5
_MAX_FILTERS_PER_GROUP: Final = 6
_MAX_FILTERS: Final = 18
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "LT": operators.lt, "LTE": operators.le, "GT": operators.gt, "GTE": operators.ge,
}  # fmt: skip
_ASSOCIATIONS: Final = "associations."  # of the pseudo-property that holds the ids of associated records
_WORD: Final = re.compile(r"\w+")


class SearchFilter(NamedTuple):
    """One filter: its operator, property and operands; `to_type` if it is about associated records."""

    operator: str
    name: str
    value: str
    high: str
    values: frozenset[str]
    is_enumeration: bool
    to_type: ObjectType | None

    def check(self, call: Call) -> Callable[[CrmRecord], bool]:
        """Return the function that returns whether a record of the call's type matches."""
        compare, bound = _COMPARISONS.get(self.operator), _number(self.value)
        if compare is None or bound is None or self.to_type is not None:
            return lambda record: self._matches(call, record)
        if self.name == call.object_type().last_modified:  # a walk over many records compares these two again and again
            return lambda record: compare(record.updated_at_ms, bound)
        if self.name == "hs_object_id":
            return lambda record: compare(int(record.id), bound)
        return lambda record: self._matches(call, record)

    def _matches(self, call: Call, record: CrmRecord) -> bool:
        operator = _OPERATORS[self.operator]
        if self.to_type is None:
            return operator(record.properties.get(self.name, ""), self)
        ids = [object_id for object_id, _ in call.portal.crm.associated(record.ref, self.to_type)]
        return any(operator(object_id, self) for object_id in ids or [""])


def read_filter_groups(call: Call, body: JsonObject) -> list[list[SearchFilter]]:
    """Return the groups of filters: a record matches all filters of one of them.

    Raises:
        HubSpotError: 400.
    """
    groups = [objects_member(group, "filters") for group in objects_member(body, "filterGroups")]
    if len(groups) > _MAX_GROUPS:
        raise invalid_request(f"At most {_MAX_GROUPS} filterGroups are allowed.")
    if any(len(group) > _MAX_FILTERS_PER_GROUP for group in groups) or sum(map(len, groups)) > _MAX_FILTERS:
        raise invalid_request(f"At most {_MAX_FILTERS_PER_GROUP} filters per group and {_MAX_FILTERS} in all.")
    return [[_read_filter(call, filter_) for filter_ in group] for group in groups]


def check_property(call: Call, name: str) -> None:
    """Check that a property exists that a search names.

    Raises:
        HubSpotError: 400.
    """
    type_, schema = call.object_type(), call.portal.crm.schema
    if schema.find(type_, name) is None:
        schema.report_unknown(type_, name)
        raise invalid_properties([PropertyRefusal.UNKNOWN.finding(name)], schema.portal_id)


@lru_cache(maxsize=1 << 19)  # every search compares the same values again
def sort_key(text: str) -> tuple[int, float, str]:
    """Return a sort key: numbers and timestamps before other texts."""
    number = _number(text)
    return (1, 0.0, text.lower()) if number is None else (0, number, "")


def _read_filter(call: Call, filter_: JsonObject) -> SearchFilter:
    if missing := [name for name in ("propertyName", "operator") if not as_text(filter_.get(name))]:
        text = f"Cannot build Filter, some of required attributes are not set [{', '.join(missing)}]"
        raise invalid_request(f"Invalid input JSON on line 1, column 1: {text}")
    operator, name = text_member(filter_, "operator"), text_member(filter_, "propertyName")
    if operator not in _OPERATORS:
        raise invalid_request("A filter needs one of HubSpot's operators.")
    if needed := [operand for operand in _operands(operator) if not filter_.get(operand)]:
        raise invalid_request(f"The operator {operator} needs {', '.join(needed)}.")
    to_type, is_enumeration = None, False
    if name.startswith(_ASSOCIATIONS):
        to_type = call.portal.crm.types.resolve(name.removeprefix(_ASSOCIATIONS))
    else:
        check_property(call, name)
        definition = call.portal.crm.schema.find(call.object_type(), name)
        is_enumeration = definition is not None and definition.kind == "enumeration"
    listed = filter_.get("values")
    values = frozenset(as_text(item) for item in listed) if isinstance(listed, list) else frozenset[str]()
    return SearchFilter(
        operator,
        name,
        as_text(filter_.get("value")),
        as_text(filter_.get("highValue")),
        values,
        is_enumeration,
        to_type,
    )


def _operands(operator: str) -> tuple[str, ...]:
    if operator in {"HAS_PROPERTY", "NOT_HAS_PROPERTY"}:
        return ()
    if operator in {"IN", "NOT_IN"}:
        return ("values",)
    return ("value", "highValue") if operator == "BETWEEN" else ("value",)


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


def _equal(value: str, filter_: SearchFilter) -> bool:
    if filter_.is_enumeration:
        return value == filter_.value
    number = _number(value)
    return value.lower() == filter_.value.lower() or (number is not None and number == _number(filter_.value))


def _is_listed(value: str, filter_: SearchFilter) -> bool:
    return (value if filter_.is_enumeration else value.lower()) in filter_.values


def _contains(value: str, filter_: SearchFilter) -> bool:
    """Return whether the words of the operand follow each other in the text, or a word or the text fits its pattern."""
    text, operand = value.lower(), filter_.value.lower()
    words, wanted = _WORD.findall(text), _WORD.findall(operand)
    if "*" not in operand:
        return any(words[at : at + len(wanted)] == wanted for at in range(len(words))) if wanted else text == operand
    pattern = re.compile(".*".join(map(re.escape, operand.split("*"))), re.DOTALL)
    return any(pattern.fullmatch(candidate) for candidate in (text, *text.split(), *words))


_OPERATORS: Final[Mapping[str, Callable[[str, SearchFilter], bool]]] = {
    "EQ": lambda value, f: bool(value) and _equal(value, f),
    "NEQ": lambda value, f: not _equal(value, f),
    "LT": lambda value, f: bool(value) and sort_key(value) < sort_key(f.value),
    "LTE": lambda value, f: bool(value) and sort_key(value) <= sort_key(f.value),
    "GT": lambda value, f: bool(value) and sort_key(value) > sort_key(f.value),
    "GTE": lambda value, f: bool(value) and sort_key(value) >= sort_key(f.value),
    "BETWEEN": lambda value, f: bool(value) and sort_key(f.value) <= sort_key(value) <= sort_key(f.high),
    "IN": lambda value, f: bool(value) and _is_listed(value, f),
    "NOT_IN": lambda value, f: bool(value) and not _is_listed(value, f),
    "HAS_PROPERTY": lambda value, _: bool(value),
    "NOT_HAS_PROPERTY": lambda value, _: not value,
    "CONTAINS_TOKEN": lambda value, f: bool(value) and _contains(value, f),
    "NOT_CONTAINS_TOKEN": lambda value, f: not _contains(value, f),
}
