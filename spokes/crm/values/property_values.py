"""Property values as HubSpot takes them: text. A value whose text would mean something else is refused.

| value | text |
| --- | --- |
| None | empty, which clears the property |
| bool, int, float, Decimal | `true`, `7`, `1.5`; plain decimals without an exponent |
| date | ISO 8601, `2026-11-23`: HubSpot reads it as midnight UTC of that day |
| datetime with a time zone | ISO 8601 in UTC, to the millisecond |
| list, tuple or set of texts | joined with `;`, as HubSpot writes multiple checkboxes; a set in sorted order |

Everything else is refused before any call: datetimes without a time zone, NaN, bytes, mappings, lists within lists.
Midnight in another zone than UTC means a day in a date property and an instant in a datetime property:
`spokes.crm.batching.property_schemas` decides by the portal's schema. Source: HubSpot's docs, "Properties".
"""

from collections.abc import Collection
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import Final, TypeAlias

from spokes.core.errors import InvalidRequest

_Texts: TypeAlias = list[str] | tuple[str, ...] | set[str] | frozenset[str]
Value: TypeAlias = str | bool | int | float | Decimal | datetime | date | _Texts | None

MAX_VALUE_CHARS: Final = 65_536  # HubSpot's docs, on notes and text properties

VALUE_TOO_LONG: Final = "VALUE_TOO_LONG"
VALUE_TYPE: Final = "VALUE_TYPE"
VALUE_NOT_FINITE: Final = "VALUE_NOT_FINITE"
VALUE_NOT_UNICODE: Final = "VALUE_NOT_UNICODE"
VALUE_LIST: Final = "VALUE_LIST"  # an element that is no text, is empty, or holds the separator
VALUE_TIME_ZONE: Final = "VALUE_TIME_ZONE"  # a datetime without a time zone, or beyond the years that UTC has


def property_text(value: Value) -> str:
    """Return a property value as HubSpot takes it.

    Raises:
        InvalidRequest: the value has no text of the same meaning, or is longer than HubSpot stores.
    """
    text = _text(value)
    if len(text) > MAX_VALUE_CHARS:
        raise InvalidRequest(category=VALUE_TOO_LONG)
    if not text.isascii():
        _check_unicode(text)
    return text


def is_midnight_elsewhere(value: object) -> bool:
    """Return whether a value is midnight of a day in its own time zone, but not in UTC."""
    if not isinstance(value, datetime) or not value.utcoffset():
        return False
    return (value.hour, value.minute, value.second, value.microsecond) == (0, 0, 0, 0)


def _text(value: object) -> str:  # noqa: PLR0911 - one line per type
    match value:
        case None:
            return ""
        case str():
            return str.__str__(value)  # the text of an enumeration's member, not the member's name
        case bool():
            return "true" if value else "false"
        case int() | float() | Decimal():
            return _number_text(value)
        case datetime():
            return _instant_text(value)
        case date():
            return value.isoformat()
        case list() | tuple():
            return _joined_texts(value)
        case set() | frozenset():
            return _joined_texts(value, is_ordered=False)
        case _:
            raise InvalidRequest(category=VALUE_TYPE)


def _number_text(value: float | Decimal) -> str:
    if isinstance(value, int):
        try:
            return int.__repr__(value)
        except ValueError:  # more digits than Python converts
            raise InvalidRequest(category=VALUE_TOO_LONG) from None
    if not (value.is_finite() if isinstance(value, Decimal) else isfinite(value)):
        raise InvalidRequest(category=VALUE_NOT_FINITE)
    number = value if isinstance(value, Decimal) else Decimal(float.__repr__(value).removesuffix(".0"))
    if abs(int(number.as_tuple().exponent)) > MAX_VALUE_CHARS:
        raise InvalidRequest(category=VALUE_TOO_LONG)
    return format(number or abs(number), "f")


def _instant_text(value: datetime) -> str:
    if value.utcoffset() is None:
        raise InvalidRequest(category=VALUE_TIME_ZONE)
    try:
        instant = value.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest(category=VALUE_TIME_ZONE) from None
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _joined_texts(values: Collection[object], *, is_ordered: bool = True) -> str:
    texts = [str.__str__(value) for value in values if isinstance(value, str)]
    # A leading separator would add to the values that are there instead of replacing them.
    if len(texts) < len(values) or not all(texts) or any(";" in text for text in texts):
        raise InvalidRequest(category=VALUE_LIST)
    return ";".join(texts if is_ordered else sorted(texts))


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise InvalidRequest(category=VALUE_NOT_UNICODE) from None
