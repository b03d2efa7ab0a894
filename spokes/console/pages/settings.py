"""*Settings*: what doctor finds, and what the handlers claim. Rule: secrets are masked where doctor masks them."""

import asyncio
import time
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from aiohttp import web

from spokes.console.accounts.policy import Permission, allow
from spokes.console.doctor.findings import Finding, Level
from spokes.console.web.app_keys import SETTINGS
from spokes.console.web.rendering import render
from spokes.core.settings import Settings
from spokes.routing import Route, load_router

_FRESH_S: Final = 30.0
_IN_FORCE: Final = "settings"  # doctor's topic for every setting with its value
_ORDER: Final = (Level.FAULT, Level.WARNING, Level.OK)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A handler, and the events that it takes."""

    route: Route
    claims: tuple[str, ...]

    @property
    def does(self) -> str:
        """The first line of what its author says of it."""
        return (self.route.function.__doc__ or "").strip().partition("\n")[0]


class Examinations:
    """Doctor's newest findings: it asks HubSpot and knocks at the door, so it is not called for every look."""

    def __init__(self) -> None:
        self._known: tuple[float, list[Finding]] | None = None
        self._lock = asyncio.Lock()

    async def get(self, settings: Settings) -> list[Finding]:
        """Return what doctor finds, half a minute old at the most."""
        async with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > _FRESH_S:
                # Loaded when it is asked for: HubSpot's client takes more memory than all the rest of the console.
                from spokes.console.doctor.report import examine  # noqa: PLC0415

                self._known = time.monotonic(), await examine(settings)
            return self._known[1]


EXAMINATIONS: Final = web.AppKey("examinations", Examinations)


@allow(Permission.SETTINGS)
async def page(request: web.Request) -> web.Response:
    """Show findings, handlers, and settings in force."""
    settings = request.app[SETTINGS]
    findings = await request.app[EXAMINATIONS].get(settings)
    looked_at = [finding for finding in findings if finding.topic != _IN_FORCE or "name" not in finding.figures]
    in_force = [finding for finding in findings if finding.topic == _IN_FORCE and "name" in finding.figures]
    looked_at.sort(key=lambda finding: _ORDER.index(finding.level))
    routes = sorted(load_router(settings.handlers), key=lambda told: told[1].name)
    handlers = [
        Claimed(claims[0][1], tuple(claim for claim, _ in claims))
        for claims in (list(group) for _, group in groupby(routes, key=lambda told: told[1].name))
    ]
    return render(request, "settings.html", findings=looked_at, in_force=in_force, handlers=handlers)
