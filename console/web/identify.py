"""Find out who makes a request. Rule: pages know people by their cookie, the API knows programs by their token.

A cookie says nothing to the API and a token nothing to a page, so neither can be used where the other's guards are.
"""

from aiohttp import web

from console.web.actors import Actor
from console.web.sessions import COOKIE
from console.web.state import SESSIONS


async def identify(request: web.Request) -> Actor | None:
    """Return who it is, None for somebody who does not say.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if request.path.startswith("/api/"):
        return None
    cookie = request.cookies.get(COOKIE, "")
    return await request.app[SESSIONS].find(cookie) if cookie else None
