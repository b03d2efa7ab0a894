"""What operators see: pages over console.answers, mounted into the console's web process."""

from aiohttp import web


def routes() -> list[web.RouteDef | web.StaticDef]:
    """Return the routes of all pages; each handler declares its policy with `console.web.policy.allow`."""
    return []
