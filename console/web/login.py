"""Come in and go: by password, by a link made on the command line. Rule: a failure does not say what was wrong.

Guesses are counted by name and by address before a password is looked at, so a guesser gets few and costs little.
"""

from typing import Final

from aiohttp import web

from console.pages.forms import text_of
from console.web.actors import ACTOR, ADDRESS
from console.web.limits import Limit
from console.web.policy import Door, allow
from console.web.render import render
from console.web.sessions import COOKIE
from console.web.state import REDIS, SESSIONS, USERS
from console.web.users import User
from core.errors import Problem
from core.security import SecurityEvent, security

_WAIT: Final = "Too many attempts to log in; wait a few minutes."
_BY_NAME: Final = Limit("login-name", 5, 300, _WAIT)
_BY_ADDRESS: Final = Limit("login-address", 20, 300, _WAIT)
_INSIDE: Final = "/console"


@allow(Door.ANYONE)
async def page(request: web.Request) -> web.Response:
    """Ask who it is."""
    return render(request, "login.html", failed="", link="")


@allow(Door.ANYONE)
async def enter(request: web.Request) -> web.Response:
    """Let in who knows name and password."""
    form = await request.post()
    name, password = text_of(form, "name").lower(), form.get("password", "")
    await _throttle(request, name)
    user = await request.app[USERS].check(name, password if isinstance(password, str) else "")
    if user is None:
        security(SecurityEvent.LOGIN_FAILED, from_address=request[ADDRESS], by="password")
        return render(request, "login.html", status=401, failed="Name and password do not open an account.", link="")
    return await _in(request, user, "password")


@allow(Door.ANYONE)
async def link_page(request: web.Request) -> web.Response:
    """Show a button: programs that look into mails follow links, and must not use one up."""
    return render(request, "login.html", failed="", link=request.path)


@allow(Door.ANYONE)
async def link_enter(request: web.Request) -> web.Response:
    """Let in who has a link that was not used."""
    await _throttle(request)
    user = await request.app[USERS].open_link(request.match_info["word"])
    if user is None:
        security(SecurityEvent.LOGIN_FAILED, from_address=request[ADDRESS], by="link")
        failed = "This link was used, or is older than ten minutes: `spokes login-link` makes a new one."
        return render(request, "login.html", status=401, failed=failed, link="")
    return await _in(request, user, "link")


@allow(Door.SIGNED_IN)
async def leave(request: web.Request) -> web.Response:
    """End the session."""
    await request.app[SESSIONS].end(request.cookies[COOKIE])
    security(SecurityEvent.LOGGED_OUT, actor=request[ACTOR].name, from_address=request[ADDRESS])
    answer = _to("/console/login")
    answer.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
    return answer


def routes() -> list[web.RouteDef]:
    """Return the routes of logging in and out."""
    link = r"/console/login/{word:[\w-]{1,100}}"
    return [
        web.get("/console/login", page),
        web.post("/console/login", enter),
        web.get(link, link_page),
        web.post(link, link_enter),
        web.post("/console/logout", leave),
    ]


async def _throttle(request: web.Request, name: str = "") -> None:
    try:
        await _BY_ADDRESS.take(request.app[REDIS], request[ADDRESS])
        if name:
            await _BY_NAME.take(request.app[REDIS], name)
    except Problem:
        security(SecurityEvent.LOGIN_THROTTLED, from_address=request[ADDRESS])
        raise


async def _in(request: web.Request, user: User, by: str) -> web.Response:
    """Begin a session; one that was there before ends, so that no cookie lives on that somebody planted."""
    sessions = request.app[SESSIONS]
    if before := request.cookies.get(COOKIE):
        await sessions.end(before)
    cookie = await sessions.begin(user.name, user.roles, user.portals)
    security(SecurityEvent.LOGIN_SUCCEEDED, actor=user.name, from_address=request[ADDRESS], by=by)
    answer = _to(_INSIDE)
    answer.set_cookie(COOKIE, cookie, path="/", secure=True, httponly=True, samesite="Strict")
    return answer


def _to(place: str) -> web.Response:
    """A redirect as an answer, since aiohttp's exceptions carry no cookies through our middleware."""
    return web.Response(status=303, headers={"Location": place})
