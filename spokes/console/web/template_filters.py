"""Template filters: times, counts, durations, names. Pure functions; templates use them by their names."""

from collections.abc import Callable, Mapping
from typing import Final

from markupsafe import Markup, escape

from spokes.console.utc_times import format_epoch_ms

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_DECIMAL_BELOW: Final = 10


def time_of_day(at_ms: float | None) -> str:
    """Return the time of day of an epoch ms, in UTC."""
    return format_epoch_ms(at_ms, "%H:%M:%S")


def date(at_ms: float | None) -> str:
    """Return the date of an epoch ms, in UTC."""
    return format_epoch_ms(at_ms, "%Y-%m-%d")


def date_time(at_ms: float | None) -> str:
    """Return date and time of an epoch ms, in UTC."""
    return format_epoch_ms(at_ms, "%Y-%m-%d %H:%M:%S")


def iso(at_ms: float | None) -> str:
    """Return an epoch ms in ISO 8601, for `datetime` attributes."""
    if not at_ms:
        return ""
    return f"{format_epoch_ms(at_ms, '%Y-%m-%dT%H:%M:%S')}.{int(at_ms) % 1000:03}+00:00"


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units."""
    if seconds is None:
        return "-"
    if seconds < _DECIMAL_BELOW:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def count(value: float) -> str:
    """Return a number with thousands separators; below ten with one decimal if it has one."""
    return f"{value:,.1f}".removesuffix(".0") if value < _DECIMAL_BELOW else f"{value:,.0f}"


def humanise(name: str) -> str:
    """Return a constant with spaces in place of underscores and dots."""
    return name.replace("_", " ").replace(".", " ")


def capitalise(sentence: str) -> str:
    """Return a sentence with a capital first letter and the rest unchanged, unlike `str.capitalize`."""
    return sentence[:1].upper() + sentence[1:]


def code_spans(text: str) -> Markup:
    """Return text as HTML, with the parts between backticks as code."""
    parts = (escape(part) for part in text.split("`"))
    return Markup().join(
        Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)
    )


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    function.__name__: function
    for function in (time_of_day, date, date_time, iso, duration, count, humanise, capitalise, code_spans)
}
