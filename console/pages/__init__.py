"""What operators see: pages over console.answers, mounted into the console's web process."""

from aiohttp import web

from console.pages import assets, now


def routes() -> list[web.RouteDef]:
    """Return the routes of all pages; each handler declares its policy with `console.web.policy.allow`."""
    return [
        web.get("/console", now.now),
        web.get("/console/now/live", now.live),
        web.get("/console/static/{name}", assets.asset),
    ]
