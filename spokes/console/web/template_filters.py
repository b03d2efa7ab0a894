"""How values look on a page: times, counts, durations, words. Rule: pure, and each is a filter of the templates."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup, escape

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_DECIMAL_BELOW: Final = 10


def time_of_day(at_ms: float | None) -> str:
    """Return the time of day of an epoch ms, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S") if at_ms else ""


def date(at_ms: float | None) -> str:
    """Return the day of an epoch ms, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d") if at_ms else ""


def date_time(at_ms: float | None) -> str:
    """Return day and time of an epoch ms, in UTC."""
    return f"{date(at_ms)} {time_of_day(at_ms)}" if at_ms else ""


def iso(at_ms: float | None) -> str:
    """Return an epoch ms as a machine reads it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds") if at_ms else ""


def duration(seconds: float | None) -> str:
    """Return a length of time in the two units that matter."""
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
    """Return a number with its thousands apart; below ten with a decimal where it has one."""
    return f"{value:,.1f}".removesuffix(".0") if value < _DECIMAL_BELOW else f"{value:,.0f}"


def humanise(name: str) -> str:
    """Return a constant as words."""
    return name.replace("_", " ").replace(".", " ")


def capitalise(sentence: str) -> str:
    """Return a sentence with a capital at its start and the rest as it is: HubSpot stays HubSpot."""
    return sentence[:1].upper() + sentence[1:]


def code_spans(text: str) -> Markup:
    """Return text as HTML in which what stands between backticks is code."""
    parts = (escape(part) for part in text.split("`"))
    return Markup().join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    told.__name__: told
    for told in (time_of_day, date, date_time, iso, duration, count, humanise, capitalise, code_spans)
}
