"""Filters of journal subscriptions: conditions that HubSpot applies to creations and updates. Pure.

The conditions of a filter must all hold; of several filters, one is enough. HubSpot cannot edit a filter. Source:
HubSpot's developer blog on journal filters.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from spokes.core.errors import ConfigurationError
from spokes.crm.object_types import singular
from spokes.subscriptions.subscribed_events import type_id_of

Filter: TypeAlias = Mapping[str, Any]  # as HubSpot has it: {"conditions": [...]}
_FILTER_TYPE: Final = "CRM_OBJECT_PROPERTY"
_OF_A_VALUE: Final = frozenset({"EQ", "N_EQ", "LT", "GT", "LTE", "GTE", "CONTAINS", "STARTS_WITH", "ENDS_WITH"})
_OF_VALUES: Final = frozenset({"IN", "NOT_IN"})
_OF_NOTHING: Final = frozenset({"IS_EMPTY", "IS_NOT_EMPTY"})
_MAX_BYTES: Final = 1_000_000


def read_filters(file: Path) -> dict[str, list[Filter]]:
    """Return the filters in a file, by the id of the object type.

    The file has a JSON object: object types, each with a list of filters, each a list of conditions
    `{"property": "lifecyclestage", "operator": "EQ", "value": "customer"}`.

    Raises:
        ConfigurationError: it cannot be read; the sentence says what is wrong.
    """
    try:
        content = orjson.loads(file.read_bytes()[:_MAX_BYTES])
    except OSError:
        raise ConfigurationError([f"{file} cannot be read. Write the path of a file with filters."]) from None
    except orjson.JSONDecodeError as error:
        raise ConfigurationError([f"{file}:{error.lineno}: no JSON. Correct the file."]) from None
    if not isinstance(content, dict):
        raise ConfigurationError([f"{file}: holds no JSON object of object types. Correct the file."])
    return {
        type_id_of(singular(name)): [_filter(conditions, f"{file}: filter {number} of {name}")
                                     for number, conditions in enumerate(_list(filters, f"{file}: {name}"), 1)]
        for name, filters in content.items()
    }  # fmt: skip


def key_of(filter_: Filter) -> bytes:
    """Return a text that is the same for equal filters."""
    conditions = filter_.get("conditions")
    parts = [orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in conditions or () if isinstance(each, dict)]
    return b"\n".join(sorted(parts))


def _filter(conditions: object, place: str) -> Filter:
    parsed = [_condition(each, place) for each in _list(conditions, place)]
    if not parsed:
        raise ConfigurationError([f"{place} has no conditions, so it would let everything pass. Remove it."])
    return {"conditions": parsed}


def _condition(condition: object, place: str) -> dict[str, object]:
    if not isinstance(condition, dict):
        raise ConfigurationError([f'{place}: a condition is an object with "property" and "operator". Correct it.'])
    name, operator = condition.get("property"), condition.get("operator")
    if not isinstance(name, str) or not name:
        raise ConfigurationError([f'{place}: a condition has no "property". Write the internal name of one.'])
    parsed: dict[str, object] = {"filterType": _FILTER_TYPE, "property": name, "operator": operator}
    if operator in _OF_A_VALUE and isinstance(condition.get("value"), str):
        return {**parsed, "value": condition["value"]}
    values = condition.get("values")
    if operator in _OF_VALUES and isinstance(values, list) and values and all(isinstance(each, str) for each in values):
        return {**parsed, "values": values}
    if operator in _OF_NOTHING:
        return parsed
    known = ", ".join(sorted(_OF_A_VALUE | _OF_VALUES | _OF_NOTHING))
    raise ConfigurationError(
        [f'{place}: write an operator of {known}, with the text "value", or the texts "values" for IN and NOT_IN.']
    )


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise ConfigurationError([f"{place} is not an array. Correct the file."])
    return value
