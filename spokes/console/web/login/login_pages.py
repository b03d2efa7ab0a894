"""Login by password or by a link made on the command line, and logout.

A failed login does not say whether name or password was wrong. Passwords are accepted over https only, if PUBLIC_URL is
https. Attempts are limited before the password is verified, which bounds both guessing and the CPU time that it costs.
Links are not limited: they cannot be guessed.
"""

from aiohttp import web

from spokes.audit.records import Action
from spokes.audit.stream import append_now
from spokes.console.accounts.actors import ACTOR, ADDRESS, IS_HTTPS
from spokes.console.accounts.policy import PublicAccess, requires
from spokes.console.accounts.sessions import COOKIE
from spokes.console.accounts.users import User
from spokes.console.operator_audit import operator_record
from spokes.console.web.app_keys import REDIS, SESSIONS, SETTINGS, USERS
from spokes.console.web.forms import form_text, read_form
from spokes.console.web.login.oidc_pages import LOGIN_PATH
from spokes.console.web.login.sign_in import CONSOLE_PATH, redirect_to, start_session, throttle_password
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event


@requires(PublicAccess.ANYONE)
async def page(request: web.Request) -> web.Response:
    """Show the login form."""
    return _render_login(request)


@requires(PublicAccess.ANYONE)
async def login(request: web.Request) -> web.Response:
    """Log in with name and password."""
    if _needs_https(request):
        raise HttpProblem(403, "not_https", "A password is accepted over https only. Open the console at PUBLIC_URL.")
    form = await read_form(request)
    name, password = form_text(form, "name").lower(), form.get("password", "")
    await throttle_password(request, name)
    user = await request.app[USERS].verify_password(name, password if isinstance(password, str) else "")
    if user is None:
        log_security_event(SecurityEvent.LOGIN_FAILED, from_address=request[ADDRESS], by="password")
        return _render_login(request, status=401, failed="Name and password do not match an account.")
    return await _start_session(request, user, "password")


@requires(PublicAccess.ANYONE)
async def link_page(request: web.Request) -> web.Response:
    """Show a button instead of logging in at once: a mail scanner that follows links would otherwise use it up."""
    return _render_login(request, link=request.path)


@requires(PublicAccess.ANYONE)
async def link_login(request: web.Request) -> web.Response:
    """Log in with a link that was not used yet."""
    user = await request.app[USERS].redeem_login_link(request.match_info["word"])
    if user is None:
        log_security_event(SecurityEvent.LOGIN_FAILED, from_address=request[ADDRESS], by="link")
        failed = "This link was used or is older than ten minutes. `spokes login-link` makes a new one."
        return _render_login(request, status=401, failed=failed)
    return await _start_session(request, user, "link")


@requires(PublicAccess.SIGNED_IN)
async def logout(request: web.Request) -> web.Response:
    """End the session."""
    await request.app[SESSIONS].end(request.cookies[COOKIE])
    await append_now(
        request.app[REDIS], operator_record(Action.LOGGED_OUT, {}, actor=request[ACTOR].name, address=request[ADDRESS])
    )
    log_security_event(SecurityEvent.LOGGED_OUT, actor=request[ACTOR].name, from_address=request[ADDRESS])
    response = redirect_to("/console/login")
    response.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
    return response


def routes() -> list[web.RouteDef]:
    """Return the login and logout routes."""
    link = r"/console/login/{word:[\w-]{1,100}}"
    return [
        web.get("/console/login", page),
        web.post("/console/login", login),
        web.get(link, link_page),
        web.post(link, link_login),
        web.post("/console/logout", logout),
    ]


def _render_login(request: web.Request, *, status: int = 200, failed: str = "", link: str = "") -> web.Response:
    oidc = LOGIN_PATH if request.app[SETTINGS].oidc_client_id else ""
    needs_https = _needs_https(request)
    return render(request, "login.html", status=status, failed=failed, link=link, oidc=oidc, needs_https=needs_https)


def _needs_https(request: web.Request) -> bool:
    """Return whether the request came over plain http although the deployment is reached over https."""
    return request.app[SETTINGS].public_url.startswith("https://") and not request[IS_HTTPS]


async def _start_session(request: web.Request, user: User, method: str) -> web.Response:
    return await start_session(request, redirect_to(CONSOLE_PATH), user.name, user.roles, user.portals, method=method)
