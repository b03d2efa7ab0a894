"""OAuth over HTTP: the token endpoints, the page on which people install the app, and its uninstall.

The token endpoints exist under dated paths and under `v1`, which ends in February 2027. No log entry holds a token.
"""

from collections.abc import Awaitable, Callable, Mapping
from html import escape
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiohttp import web

from spokes.simulator.api.call import NO_CONTENT, Call, Endpoint, EndpointResponse
from spokes.simulator.api.json_endpoint import json_response
from spokes.simulator.api.request_log import LoggedCall
from spokes.simulator.errors import JsonObject
from spokes.simulator.oauth.installs import CodeRequest, Installs, IssuedTokens
from spokes.simulator.oauth.refusals import OAuthRefusal, bad_client_id, bad_grant_type, bad_redirect_uri, bad_scopes
from spokes.simulator.portal import Portal
from spokes.simulator.rate_limits import Meter

TOKEN_VERSIONS: Final = ("v1", "v3", "2026-03", "2026-09", "2027-03-beta")
_APP_NAME: Final = "Simulated app"


class OAuthServer:
    """The OAuth endpoints of a simulator; `portals` are the accounts that people may choose."""

    def __init__(
        self, installs: Installs, portals: Mapping[int, Portal], issue_app_token: Callable[[frozenset[str]], JsonObject]
    ) -> None:
        self._installs = installs
        self._issue_app_token = issue_app_token
        self._portals = portals

    def routes(self) -> Mapping[tuple[str, str], Callable[[web.Request, LoggedCall], Awaitable[web.Response]]]:
        """Return the functions for paths that take no bearer token."""
        tokens = {("POST", f"/oauth/{version}/token"): self._token for version in TOKEN_VERSIONS}
        introspections = {
            ("POST", f"/oauth/{version}/token/introspect"): self._introspect for version in TOKEN_VERSIONS
        }
        revocations = {("POST", f"/oauth/{version}/token/revoke"): self._revoke for version in TOKEN_VERSIONS}
        pages = {
            (method, path): function
            for path in ("/oauth/authorize", r"/oauth/{portal_id:\d+}/authorize")
            for method, function in (("GET", self._show_authorization), ("POST", self._answer_authorization))
        }
        return {**tokens, **introspections, **revocations, **pages}

    def uninstall_endpoint(self) -> Endpoint:
        """Return the endpoint that removes the app from the portal of the bearer token."""
        paths = tuple(f"/appinstalls/{version}/external-install" for version in TOKEN_VERSIONS)
        return Endpoint("DELETE", paths, self._uninstall, meter=Meter.UNMETERED)

    def _uninstall(self, call: Call) -> EndpointResponse:
        self._installs.uninstall(call.portal.config.portal_id)
        return NO_CONTENT

    async def _token(self, request: web.Request, log: LoggedCall) -> web.Response:
        form = await _form(request)
        self._check_client(form)
        match form.get("grant_type"):
            case "authorization_code":
                code, address = form.get("code", ""), form.get("redirect_uri", "")
                issued = self._installs.exchange(code, address, form.get("code_verifier", ""))
            case "refresh_token":
                issued = self._installs.refresh(form.get("refresh_token", ""))
            case "client_credentials":
                return json_response(self._issue_app_token(frozenset(form.get("scope", "").split())))
            case _:
                raise bad_grant_type()
        log.portal_id = issued.portal_id
        return json_response(_tokens_body(issued))

    async def _introspect(self, request: web.Request, log: LoggedCall) -> web.Response:
        form = await _form(request)
        self._check_client(form)
        token = self._installs.access(form.get("token", ""))
        if token is None or self._installs.is_expired(token):
            return json_response({"active": False})
        log.portal_id = token.portal_id
        app_id = self._portals[token.portal_id].config.app_id
        return json_response(
            {
                "active": True,
                "hub_id": token.portal_id,
                "user_id": 60718293,
                "user": "admin@example.com",
                "client_id": self._installs.config.client_id,
                "app_id": app_id,
                "hub_domain": f"account-{token.portal_id}.example.com",
                "scopes": sorted(token.scopes),
                "expires_in": self._installs.expires_in_s(token),
                "token_use": "access_token",
                "token_type": "bearer",
            }
        )

    async def _revoke(self, request: web.Request, log: LoggedCall) -> web.Response:
        del log
        form = await _form(request)
        self._check_client(form)
        self._installs.revoke_refresh_token(form.get("token", ""))
        return web.Response()

    def _check_client(self, form: Mapping[str, str]) -> None:
        self._installs.check_client(form.get("client_id", ""), form.get("client_secret", ""))

    async def _show_authorization(self, request: web.Request, log: LoggedCall) -> web.Response:
        del log
        self._read_authorization(request)
        chosen = request.match_info.get("portal_id")
        portals = [int(chosen)] if chosen else list(self._portals)
        return web.Response(text=_page(portals, _all_scopes(request.query)), content_type="text/html")

    async def _answer_authorization(self, request: web.Request, log: LoggedCall) -> web.Response:
        self._read_authorization(request)
        form = await _form(request)
        query = request.query
        state = {"state": query["state"]} if "state" in query else {}
        if form.get("answer") == "cancel":
            description = {"error_description": "The user cancelled the install."}
            return _redirect(query["redirect_uri"], {"error": "access_denied", **description, **state})
        portal = self._portals.get(_number(request.match_info.get("portal_id") or form.get("portal", "")))
        if portal is None:
            raise OAuthRefusal("invalid_request", "BAD_HUB", "missing or unknown hub id")
        log.portal_id = portal.config.portal_id
        granted = _all_scopes(query)
        if portal.config.scopes is not None:
            if missing := set(query.get("scope", "").split()) - portal.config.scopes:
                raise bad_scopes(f"The account does not have the scopes {' '.join(sorted(missing))}.")
            granted &= portal.config.scopes
        challenge, method = query.get("code_challenge", ""), query.get("code_challenge_method", "plain")
        code = self._installs.authorize(
            CodeRequest(portal.config.portal_id, query["redirect_uri"], granted, challenge, method)
        )
        return _redirect(query["redirect_uri"], {"code": code, **state})

    def _read_authorization(self, request: web.Request) -> None:
        """Check the address to which the app has sent the browser.

        Raises:
            OAuthRefusal: client id, redirect address or scopes are not the app's.
        """
        config, query = self._installs.config, request.query
        if query.get("client_id") != config.client_id:
            raise bad_client_id()
        address = query.get("redirect_uri", "")
        if not address or (config.redirect_uris and address not in config.redirect_uris):
            raise bad_redirect_uri("The redirect URL is not one of the app's.")
        if missing := set(config.required_scopes) - set(query.get("scope", "").split()):
            raise bad_scopes(f"The app requires the scopes {' '.join(sorted(missing))}.")


def _all_scopes(query: Mapping[str, str]) -> frozenset[str]:
    return frozenset(f"{query.get('scope', '')} {query.get('optional_scope', '')}".split())


def _page(portals: list[int], scopes: frozenset[str]) -> str:
    """Return the page with the account chooser."""
    options = "".join(f'<option value="{portal_id}">Account {portal_id}</option>' for portal_id in portals)
    rows = "".join(f"<li>{escape(scope)}</li>" for scope in sorted(scopes))
    return (
        f"<!doctype html><title>Connect {_APP_NAME}</title><h1>Connect {_APP_NAME} to HubSpot</h1>"
        f'<form method="post"><label>Account <select name="portal">{options}</select></label>'
        f"<p>The app will be able to use:</p><ul>{rows}</ul>"
        '<button name="answer" value="grant">Connect app</button> <button name="answer" value="cancel">Cancel</button>'
        "</form>"
    )


def _redirect(address: str, parameters: Mapping[str, str]) -> web.Response:
    parts = urlsplit(address)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *parameters.items()])
    return web.Response(status=HTTPStatus.FOUND, headers={"Location": urlunsplit(parts._replace(query=query))})


async def _form(request: web.Request) -> Mapping[str, str]:
    """Return the fields of a form in the body; fields in the query are ignored, as HubSpot ignores them."""
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}


def _tokens_body(issued: IssuedTokens) -> JsonObject:
    return {
        "access_token": issued.access_token,
        "refresh_token": issued.refresh_token,
        "expires_in": issued.expires_in_s,
        "token_type": "bearer",
        "token_use": "access_token",
        "hub_id": issued.portal_id,
        "user_id": 60718293,
        "scopes": sorted(issued.scopes),
    }


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0
