"""Come in and go: by password, by a link made on the command line. Rule: a failure does not say what was wrong.

Guesses are counted by name and by address before a password is looked at, so a guesser gets few and costs little.
"""

from aiohttp import web

from spokes.audit.records import Action
from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.accounts.policy import Door, allow
from spokes.console.accounts.sessions import COOKIE
from spokes.console.accounts.users import User
from spokes.console.operator_audit import act, tell
from spokes.console.web.app_keys import REDIS, SESSIONS, SETTINGS, USERS
from spokes.console.web.forms import text_of
from spokes.console.web.oidc_pages import BEGIN
from spokes.console.web.rendering import render
from spokes.console.web.sign_in import INSIDE, let_in, throttle, to
from spokes.core.telemetry.security_events import SecurityEvent, security


@allow(Door.ANYONE)
async def page(request: web.Request) -> web.Response:
    """Ask who it is."""
    return _ask(request)


@allow(Door.ANYONE)
async def enter(request: web.Request) -> web.Response:
    """Let in who knows name and password."""
    form = await request.post()
    name, password = text_of(form, "name").lower(), form.get("password", "")
    await throttle(request, name)
    user = await request.app[USERS].check(name, password if isinstance(password, str) else "")
    if user is None:
        security(SecurityEvent.LOGIN_FAILED, from_address=request[ADDRESS], by="password")
        return _ask(request, status=401, failed="Name and password do not open an account.")
    return await _in(request, user, "password")


@allow(Door.ANYONE)
async def link_page(request: web.Request) -> web.Response:
    """Show a button: programs that look into mails follow links, and must not use one up."""
    return _ask(request, link=request.path)


@allow(Door.ANYONE)
async def link_enter(request: web.Request) -> web.Response:
    """Let in who has a link that was not used."""
    await throttle(request)
    user = await request.app[USERS].open_link(request.match_info["word"])
    if user is None:
        security(SecurityEvent.LOGIN_FAILED, from_address=request[ADDRESS], by="link")
        failed = "This link was used, or is older than ten minutes: `spokes login-link` makes a new one."
        return _ask(request, status=401, failed=failed)
    return await _in(request, user, "link")


@allow(Door.SIGNED_IN)
async def leave(request: web.Request) -> web.Response:
    """End the session."""
    await request.app[SESSIONS].end(request.cookies[COOKIE])
    await tell(request.app[REDIS], act(Action.LOGGED_OUT, {}, actor=request[ACTOR].name, address=request[ADDRESS]))
    security(SecurityEvent.LOGGED_OUT, actor=request[ACTOR].name, from_address=request[ADDRESS])
    answer = to("/console/login")
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


def _ask(request: web.Request, *, status: int = 200, failed: str = "", link: str = "") -> web.Response:
    oidc = BEGIN if request.app[SETTINGS].oidc_client_id else ""
    return render(request, "login.html", status=status, failed=failed, link=link, oidc=oidc)


async def _in(request: web.Request, user: User, by: str) -> web.Response:
    return await let_in(request, to(INSIDE), user.name, user.roles, user.portals, by=by)
