"""What goes wrong with calls, on purpose. Rule: which call fails follows from the rules and the seed alone.

A rule names calls (method, path pattern) and picks some of them: the nth, each nth, or a share drawn from the seed.
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

_Z_99: Final = 2.326  # standard deviations above the median that one in a hundred exceeds


@unique
class FaultBody(StrEnum):
    """What an injected answer carries."""

    HUBSPOT = "hubspot"
    HTML = "html"
    EMPTY = "empty"
    NON_UTF8 = "non_utf8"
    TRUNCATED_JSON = "truncated_json"


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule. `path` is a shell pattern over the path without its query.

    Picks: `nth` counts the calls that match from 1; `every` each so many; `share` a probability; nothing means all.
    `times` ends the rule after so many faults. Without `status` and `reset` a rule only adds `latency`.
    `after_effect` lets HubSpot do what was asked before the answer goes wrong. `retry_after` is the header's text.
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
    """A rule at work: its number, how many calls matched, how many were hit."""

    number: int
    fault: Fault
    matched: int = 0
    hits: int = 0


@dataclass(slots=True)
class Faults:
    """The rules at work; the first that picks a call decides it."""

    rng: Random
    active: list[ActiveFault] = field(default_factory=list)
    _last_number: int = 0

    def add(self, fault: Fault) -> int:
        """Put a rule to work and return its number."""
        self._last_number += 1
        self.active.append(ActiveFault(self._last_number, fault))
        return self._last_number

    def remove(self, number: int) -> None:
        """End one rule."""
        self.active = [rule for rule in self.active if rule.number != number]

    def clear(self) -> None:
        """End all rules."""
        self.active.clear()

    def choose(self, method: str, path: str, portal_id: int | None) -> Fault | None:
        """The fault for this call, if any; counts the call with every rule it matches."""
        picked: Fault | None = None
        for rule in self.active:
            if _matches(rule.fault, method, path, portal_id):
                rule.matched += 1
                if picked is None and self._applies(rule):
                    rule.hits += 1
                    picked = rule.fault
        return picked

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
    """Seconds that one answer takes."""
    if latency.median_ms <= 0:
        return 0.0
    if latency.p99_ms is None or latency.p99_ms <= latency.median_ms:
        return latency.median_ms / 1000
    sigma = math.log(latency.p99_ms / latency.median_ms) / _Z_99
    return rng.lognormvariate(math.log(latency.median_ms), sigma) / 1000


def fault_content(fault: Fault, status: int) -> tuple[bytes, str]:
    """The body of an injected answer and its content type."""
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
        case FaultBody.HUBSPOT:
            return orjson.dumps(injected_error_body(status)), "application/json"


def _matches(fault: Fault, method: str, path: str, portal_id: int | None) -> bool:
    if fault.portal_id not in {None, portal_id}:
        return False
    return fault.method in {"*", method} and (fault.path == "*" or fnmatchcase(path, fault.path))
