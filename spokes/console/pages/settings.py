"""*Settings*: doctor's findings, registered handlers, and settings in force. Doctor masks the secrets.

Findings and settings concern the whole deployment, so only actors who may see all portals see them.
"""

import asyncio
import time
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.doctor.findings import Finding, FindingLevel
from spokes.console.web.app_keys import SETTINGS
from spokes.console.web.rendering import render
from spokes.core.settings import Settings
from spokes.routing import Route, load_router

_CACHE_S: Final = 30.0
_SETTINGS_TOPIC: Final = "settings"  # doctor's topic of the settings and their values
_LEVEL_ORDER: Final = tuple(reversed(FindingLevel))


@dataclass(frozen=True, slots=True)
class RegisteredHandler:
    """A handler, and the event types that it is registered for."""

    route: Route
    event_types: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.route.function.__doc__ or "").strip().partition("\n")[0]


class DoctorReports:
    """Doctor's newest findings, cached: doctor calls HubSpot and the receiver."""

    def __init__(self) -> None:
        self._cached: tuple[float, list[Finding]] | None = None
        self._lock = asyncio.Lock()

    async def get(self, settings: Settings) -> list[Finding]:
        """Return the findings, at most half a minute old."""
        async with self._lock:
            if self._cached is None or time.monotonic() - self._cached[0] > _CACHE_S:
                # Imported on demand: HubSpot's client takes more memory than the rest of the console.
                from spokes.console.doctor.report import run_checks  # noqa: PLC0415

                self._cached = time.monotonic(), await run_checks(settings)
            return self._cached[1]


DOCTOR_REPORTS: Final = web.AppKey("doctor_reports", DoctorReports)


@requires(Permission.SETTINGS)
async def page(request: web.Request) -> web.Response:
    """Show findings, handlers, and settings in force."""
    settings = request.app[SETTINGS]
    sees_all = request[ACTOR].portals is None
    findings = await request.app[DOCTOR_REPORTS].get(settings) if sees_all else []
    checks = [finding for finding in findings if finding.topic != _SETTINGS_TOPIC or "name" not in finding.figures]
    in_force = [finding for finding in findings if finding.topic == _SETTINGS_TOPIC and "name" in finding.figures]
    checks.sort(key=lambda finding: _LEVEL_ORDER.index(finding.level))
    routes = sorted(load_router(settings.handlers), key=lambda pair: pair[1].name)
    handlers = [
        RegisteredHandler(pairs[0][1], tuple(event_type for event_type, _ in pairs))
        for pairs in (list(group) for _, group in groupby(routes, key=lambda pair: pair[1].name))
    ]
    return render(request, "settings.html", findings=checks, in_force=in_force, handlers=handlers, sees_all=sees_all)
