"""Decide where what arrives differs from what the handlers need. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from spokes.core.settings import Settings
from spokes.intake.allow_list import AllowList
from spokes.intake.arrivals import DAY_MS, HOUR_MS
from spokes.routing import Router
from spokes.subscriptions.desired_state import DesiredState, desired_state, missing_scopes
from spokes.subscriptions.drift.arrived_events import (
    arrived_events,
    counts_without_handler,
    stopped_days,
)
from spokes.subscriptions.drift.findings import Drift, DriftKind, Severity
from spokes.subscriptions.drift.observations import Observations
from spokes.subscriptions.drift.target import missed_hours
from spokes.subscriptions.subscribed_events import GENERIC, parse_event

_QUIET_DAYS: Final = 7  # a registration may wait this long for its first event
_RARE_QUIET_DAYS: Final = 28
_COMMON_KINDS: Final = frozenset({"creation", "propertyChange", "newMessage"})
_BOTH_DIALECTS_DAYS: Final = 2
_NEVER_REACHED_H: Final = 24
# Prefixes and names of HubSpot's own calculated properties.
_CALCULATED: Final = re.compile(
    r"hs_(?:v2_)?(?:time_in|date_entered|date_exited|cumulative_time_in|latest_meeting|is_closed|projected_amount).*"
    r"|(?:hs_)?num_(?:associated|child|contacted|notes|open).*|(?:hs_)?days_to_close.*|hs_object_id|hs_createdate"
    r"|(?:hs_)?(?:amount|closed_amount|forecast_amount|projected_amount)_in_home_currency"
    r"|total_revenue|recent_deal_amount|hs_predictive.*|hs_deal_stage_probability.*"
)


def desired_of(router: Router, settings: Settings) -> DesiredState:
    """Return the desired state, also if HubSpot cannot call PUBLIC_URL.

    Raises:
        ConfigurationError: there are no handlers, or more events than HubSpot allows subscriptions.
    """
    if not settings.public_url.startswith("https://"):
        settings = settings.model_copy(update={"public_url": ""})
    return desired_state(router, settings)


def assess_drift(router: Router, settings: Settings, desired: DesiredState, seen: Observations) -> list[Drift]:
    """Return the drifts, the most serious first."""
    drifts = [
        Drift(kind, severity, subjects)
        for kind, severity, subjects in _Assessment(router, settings, desired, seen).all()
        if subjects
    ]
    order = list(Severity)
    return sorted(drifts, key=lambda drift: -order.index(drift.severity))


_Found = tuple[DriftKind, Severity, Mapping[str, str]]


class _Assessment:
    def __init__(self, router: Router, settings: Settings, desired: DesiredState, seen: Observations) -> None:
        router = router.sent_by_hubspot()
        self._settings = settings
        self._desired = desired
        self._seen = seen
        self._registrations = router.registrations
        self._allow_list = AllowList(router.registrations, settings.allowed_events)
        recent_from_ms = seen.now_ms - _BOTH_DIALECTS_DAYS * DAY_MS
        self._arrived = arrived_events(seen.arrivals, router.registrations, recent_from_ms=recent_from_ms)
        self._explained: set[str] = set()  # registrations without events, for a reason that has been found

    def all(self) -> Iterator[_Found]:
        yield from self._target()
        yield from self._reasons_for_silence()
        yield from self._silent_registrations()
        yield from self._needless_events()
        yield from self._scopes()
        subjects = {name: "" for name in sorted(self._seen.owned) if parse_event(name) not in self._desired.events}
        yield DriftKind.UNUSED_SUBSCRIPTION, Severity.WARNING, subjects
        yield DriftKind.PROJECT_DIFFERS, Severity.WARNING, self._seen.project_changes

    @property
    def _is_reached(self) -> bool:
        return bool(self._seen.arrivals.hours)

    def _target(self) -> Iterator[_Found]:
        now_ms, url = self._seen.now_ms, self._desired.target_url
        if not url:
            yield DriftKind.NO_TARGET, Severity.NOTICE, {self._settings.public_url or "PUBLIC_URL": ""}
        now_h = now_ms // HOUR_MS
        missed = missed_hours(self._seen.arrivals.hours, now_h)
        if missed >= self._settings.watch_silent_hours:
            silent = now_h - max(self._seen.arrivals.hours)
            yield (
                DriftKind.TARGET_SILENT,
                Severity.FAULT,
                {url or "PUBLIC_URL": f"no event for {silent} h, in {missed:.0f} of which events normally come"},
            )
        since = min((time.registered_at for time in self._seen.registrations.values()), default=now_ms)
        has_matched = any(time.matched_at is not None for time in self._seen.registrations.values())
        waited_h = (now_ms - since) // HOUR_MS
        if not self._is_reached and not has_matched and waited_h >= _NEVER_REACHED_H:
            yield DriftKind.TARGET_NEVER_REACHED, Severity.FAULT, {url or "PUBLIC_URL": f"no event for {waited_h} h"}

    def _reasons_for_silence(self) -> Iterator[_Found]:
        """Find registrations whose events cannot come."""
        excluded = {name: "" for name in sorted(self._registrations) if not self._allow_list.allows_name(name)}
        yield DriftKind.EXCLUDED, Severity.FAULT, excluded
        waiting = {name: days for name, days in self._waiting().items() if name not in excluded}
        calculated = {
            name: _days(days)
            for name, days in waiting.items()
            if _CALCULATED.fullmatch(parse_event(name).property_name)
        }
        yield DriftKind.CALCULATED_PROPERTY, Severity.WARNING, calculated
        uncovered = {name: self._desired.gaps_by_registration[name] for name in waiting
                     if name in self._desired.gaps_by_registration}  # fmt: skip
        yield DriftKind.NO_SUBSCRIPTION, Severity.WARNING, uncovered
        custom = {
            name: "" for name in sorted(self._registrations)
            if self._settings.hubspot_client_id and name.startswith("2-") and name not in self._arrived.last_at
        }  # fmt: skip
        yield DriftKind.CUSTOM_OBJECT, Severity.WARNING, custom
        self._explained = {*excluded, *calculated, *uncovered, *custom}

    def _waiting(self) -> dict[str, int]:
        """Return for how many days each registration without any event has waited, if that is long."""
        waiting = {}
        for name in sorted(self._registrations & self._seen.registrations.keys()):
            time = self._seen.registrations[name]
            days = (self._seen.now_ms - time.registered_at) // DAY_MS
            if time.matched_at is None and name not in self._arrived.last_at and days >= _QUIET_DAYS:
                waiting[name] = days
        return waiting

    def _silent_registrations(self) -> Iterator[_Found]:
        waiting = {name: days for name, days in self._waiting().items() if name not in self._explained}
        common = {name for name, days in waiting.items() if _is_common(name) or days >= _RARE_QUIET_DAYS}
        subscribed = {name: days for name, days in waiting.items() if name in self._seen.subscribed and name in common}
        severity = Severity.FAULT if self._is_reached else Severity.NOTICE
        yield DriftKind.SUBSCRIBED_WITHOUT_EVENT, severity, _texts(subscribed)
        rest = {name: days for name, days in waiting.items() if name not in subscribed}
        missing = {name: days for name, days in rest.items() if self._is_reached and _is_common(name)}
        yield DriftKind.NEVER_ARRIVED, Severity.FAULT, _texts(missing)
        yield (
            DriftKind.NEVER_ARRIVED,
            Severity.NOTICE,
            _texts({name: days for name, days in rest.items() if name not in missing}),
        )
        today = self._seen.now_ms // DAY_MS
        is_reached_now = any(hour >= (today - 1) * 24 for hour in self._seen.arrivals.hours)
        stopped = {name: stopped_days(self._arrived.days.get(name, ()), today) for name in sorted(self._registrations)}
        yield (
            DriftKind.STOPPED,
            Severity.FAULT,
            {name: f"no event for {_days(days)}" for name, days in stopped.items() if days and is_reached_now},
        )

    def _needless_events(self) -> Iterator[_Found]:
        ignored = counts_without_handler(self._arrived)
        yield (
            DriftKind.UNREGISTERED,
            Severity.WARNING,
            {name: f"{count:,} in {_days(7)}" for name, count in ignored.items() if not self._is_denied(name)},
        )
        recent_ms = self._seen.now_ms - _QUIET_DAYS * DAY_MS
        yield DriftKind.ALLOWED_WITHOUT_HANDLER, Severity.WARNING, {
            name: "" for name, at in sorted(self._arrived.unregistered.items())
            if at >= recent_ms and self._allow_list.allows_name(name)
        }  # fmt: skip
        yield DriftKind.BOTH_DIALECTS, Severity.WARNING, dict.fromkeys(sorted(self._arrived.in_both_dialects), "")
        yield (
            DriftKind.UNSERVED_PORTAL,
            Severity.WARNING,
            {
                f"portal {portal_id}": f"{count:,} events in {_days(7)}"
                for portal_id, count in sorted(self._seen.arrivals.unserved.items())
                if portal_id not in self._settings.portal_ids
            },
        )

    def _is_denied(self, name: str) -> bool:
        """Return whether ALLOWED_EVENTS excludes an event on purpose."""
        event = parse_event(name)
        types = (event.type, f"{GENERIC}.{event.kind}")
        entries = {*types, *(f"{type_}:{event.property_name}" for type_ in types)}
        return not entries.isdisjoint(entry[1:] for entry in self._settings.allowed_events if entry.startswith("-"))

    def _scopes(self) -> Iterator[_Found]:
        subjects: dict[str, str] = {}
        for holder, granted in sorted(self._seen.scopes.items()):
            if not granted:
                continue
            for scope, reasons in missing_scopes(self._desired.scopes, granted).items():
                subjects[f"{scope} of {holder}"] = reasons[0]
        yield DriftKind.SCOPE_MISSING, Severity.FAULT, subjects


def _is_common(registration: str) -> bool:
    return parse_event(registration).kind in _COMMON_KINDS


def _days(count: int) -> str:
    return f"{count} day{'s' if count != 1 else ''}"


def _texts(days: Mapping[str, int]) -> dict[str, str]:
    return {name: _days(count) for name, count in days.items()}
