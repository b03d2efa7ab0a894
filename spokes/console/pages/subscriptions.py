"""*Subscriptions*: when each registration last saw an event, and where what arrives differs from what handlers need.

Registrations concern the whole deployment, so only actors who may see all portals see them.
"""

from aiohttp import web

from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.web.app_keys import ENGINE, REDIS, SETTINGS
from spokes.console.web.rendering import render
from spokes.core.errors import ConfigurationError
from spokes.routing import load_router
from spokes.subscriptions.drift.report import DriftReport, read_drift


@requires(Permission.SETTINGS)
async def page(request: web.Request) -> web.Response:
    """Show registrations and drifts."""
    sees_all = request[ACTOR].portals is None
    report = DriftReport((), ())
    problems: tuple[str, ...] = ()
    if sees_all:
        settings = request.app[SETTINGS]
        try:
            router = load_router(settings.handlers)
            report = await read_drift(settings, request.app[REDIS], request.app[ENGINE], router)
        except ConfigurationError as error:
            problems = error.problems
    return render(request, "subscriptions.html", report=report, problems=problems, sees_all=sees_all)
