"""Injected failures of CRM calls. The rules and the seed alone determine which calls fail.

A rule matches calls (method, path pattern) and selects some of them: the nth, each nth, or a seeded random share.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum, unique
from fnmatch import fnmatchcase
from random import Random
from typing import Final

import orjson

from spokes.simulator.config import Latency
from spokes.simulator.errors import injected_error_body

_Z_99: Final = 2.326  # standard deviations from the median to the 99th percentile


@unique
class FaultBody(StrEnum):
    """The kind of body of an injected response."""

    HUBSPOT = "hubspot"
    HTML = "html"
    EMPTY = "empty"
    NON_UTF8 = "non_utf8"
    TRUNCATED_JSON = "truncated_json"
    BAD_GZIP = "bad_gzip"


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule. `path` is a shell pattern for the path without its query.

    Selection: `nth` counts matching calls from 1; `every` n means each nth; `share` is a probability; without any of
    them all calls are selected. `times` is the maximum number of faults. Without `status` and `reset` a rule only adds
    `latency`. With `after_effect` the call takes effect before it is delayed and its response fails. `retry_after` is
    the header's text.
    """

    method: str = "*"
    path: str = "*"
    nth: frozenset[int] = frozenset()
    every: int = 0
    share: float | None = None
    times: int | None = None
    status: int | None = None
    body: FaultBody = FaultBody.HUBSPOT
    retry_after: str | None = None
    latency: Latency | None = None
    reset: bool = False
    after_effect: bool = False
    portal_id: int | None = None


@dataclass(slots=True)
class ActiveFault:
    """An active rule: its number, and how many calls it matched and hit."""

    number: int
    fault: Fault
    matched: int = 0
    hits: int = 0


@dataclass(slots=True)
class Faults:
    """The active rules; the first rule that selects a call applies to it."""

    rng: Random
    active: list[ActiveFault] = field(default_factory=list)
    _last_number: int = 0

    def add(self, fault: Fault) -> int:
        """Activate a rule and return its number."""
        self._last_number += 1
        self.active.append(ActiveFault(self._last_number, fault))
        return self._last_number

    def remove(self, number: int) -> None:
        """Remove one rule."""
        self.active = [rule for rule in self.active if rule.number != number]

    def clear(self) -> None:
        """Remove all rules."""
        self.active.clear()

    def choose(self, method: str, path: str, portal_id: int | None) -> Fault | None:
        """Return the fault for this call, if any; count the call with every rule it matches."""
        chosen: Fault | None = None
        for rule in self.active:
            if _matches(rule.fault, method, path, portal_id):
                rule.matched += 1
                if chosen is None and self._applies(rule):
                    rule.hits += 1
                    chosen = rule.fault
        return chosen

    def _applies(self, rule: ActiveFault) -> bool:
        fault = rule.fault
        if fault.times is not None and rule.hits >= fault.times:
            return False
        if fault.nth:
            return rule.matched in fault.nth
        if fault.every:
            return rule.matched % fault.every == 0
        return fault.share is None or self.rng.random() < fault.share


def draw_latency_s(latency: Latency, rng: Random) -> float:
    """Return a random response time in seconds."""
    if latency.median_ms <= 0:
        return 0.0
    if latency.p99_ms is None or latency.p99_ms <= latency.median_ms:
        return latency.median_ms / 1000
    sigma = math.log(latency.p99_ms / latency.median_ms) / _Z_99
    return rng.lognormvariate(math.log(latency.median_ms), sigma) / 1000


def fault_content(fault: Fault, status: int) -> tuple[bytes, str]:
    """Return the body of an injected response and its content type."""
    match fault.body:
        case FaultBody.HTML:
            page = f"<html><head><title>{status}</title></head><body><h1>Error {status}</h1></body></html>"
            return page.encode(), "text/html"
        case FaultBody.EMPTY:
            return b"", "text/plain"
        case FaultBody.NON_UTF8:
            return b"<html>\xe9chec \xff\xfe</html>", "text/html"
        case FaultBody.TRUNCATED_JSON:
            return orjson.dumps(injected_error_body(status))[:-9], "application/json"
        case FaultBody.HUBSPOT | FaultBody.BAD_GZIP:  # the header of the latter says that it is compressed
            return orjson.dumps(injected_error_body(status)), "application/json"


def _matches(fault: Fault, method: str, path: str, portal_id: int | None) -> bool:
    if fault.portal_id not in {None, portal_id}:
        return False
    return fault.method in {"*", method} and (fault.path == "*" or fnmatchcase(path, fault.path))
