"""A small HubSpot for installs: the page on which a customer authorises and the endpoints of tokens, over HTTP."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.test_utils import TestServer

CLIENT_ID = "0c3f6d0c-2e8b-4e57-9c34-7a5e2d10b9f8"
APP_ID = 7788990
PORTAL = 50112233


@dataclass
class IssuedCode:
    """A code: the portal and scopes that it stands for, and what its exchange must repeat."""

    portal_id: int
    scopes: list[str]
    redirect_uri: str
    challenge: str = ""


@dataclass
class OAuthHubSpot:
    """Authorises for `portal_id` with the scopes that were asked for, unless a test says otherwise.

    `failures` are answers (status, body) for the next calls by path; `calls` are the forms that were received.
    """

    secret: str
    portal_id: int = PORTAL
    scopes: list[str] | None = None
    app_id: int = APP_ID
    failures: dict[str, list[tuple[int, dict[str, object]]]] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    codes: dict[str, IssuedCode] = field(default_factory=dict)
    tokens: dict[str, IssuedCode] = field(default_factory=dict)
    refresh_tokens: dict[str, IssuedCode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        app = web.Application()
        app.router.add_get("/oauth/authorize", self._authorize)
        app.router.add_get("/oauth/{portal}/authorize", self._authorize)
        app.router.add_post("/oauth/{version}/token", self._token)
        app.router.add_post("/oauth/{version}/token/introspect", self._introspect)
        app.router.add_delete("/appinstalls/{version}/external-install", self._uninstall)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/")).rstrip("/")

    def environ(self) -> dict[str, str]:
        """Return the settings of a deployment whose app customers install here."""
        return {
            "HUBSPOT_CLIENT_ID": CLIENT_ID,
            "HUBSPOT_APP_URL": self.url,
            "HUBSPOT_API_URL": self.url,
            "SECRETS_KEY": "3f6d0c2e8b1a4e579c347a5e2d10b9f8",
            "HANDLERS": "handlers",
        }

    def issue_code(self, redirect_uri: str, scopes: list[str], challenge: str = "") -> str:
        """Return a code for the portal, as after the customer's consent."""
        code = secrets.token_hex(16)
        self.codes[code] = IssuedCode(
            self.portal_id, scopes if self.scopes is None else self.scopes, redirect_uri, challenge
        )
        return code

    async def _authorize(self, request: web.Request) -> web.Response:
        query = request.query
        self.portal_id = int(request.match_info.get("portal", self.portal_id))
        code = self.issue_code(query["redirect_uri"], query["scope"].split(), query.get("code_challenge", ""))
        target = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
        return web.Response(status=302, headers={"Location": target})

    async def _token(self, request: web.Request) -> web.Response:
        form = await self._form("token", request)
        if failure := self._failure("token"):
            return failure
        if form.get("client_id") != CLIENT_ID or form.get("client_secret") != self.secret:
            return _refusal("invalid_client", "BAD_CLIENT_SECRET")
        if form.get("grant_type") == "refresh_token":
            known = self.refresh_tokens.get(form.get("refresh_token", ""))
            return self._issue(known) if known else _refusal("invalid_grant", "BAD_REFRESH_TOKEN")
        return self._redeem(form)

    def _redeem(self, form: dict[str, str]) -> web.Response:
        issued = self.codes.pop(form.get("code", ""), None)
        if issued is None:
            return _refusal("invalid_grant", "BAD_AUTH_CODE")
        if issued.redirect_uri != form["redirect_uri"]:
            return _refusal("invalid_grant", "BAD_REDIRECT_URI")
        if issued.challenge and issued.challenge != _challenge(form.get("code_verifier", "")):
            return _refusal("invalid_grant", "BAD_CODE_VERIFIER")
        return self._issue(issued)

    def _issue(self, issued: IssuedCode) -> web.Response:
        token, refresh_token = f"access-{secrets.token_hex(16)}", f"refresh-{secrets.token_hex(16)}"
        self.tokens[token] = self.refresh_tokens[refresh_token] = issued
        body = {"access_token": token, "refresh_token": refresh_token, "expires_in": 1800}
        return web.json_response(body | {"token_type": "bearer", "token_use": "access_token"})

    async def _introspect(self, request: web.Request) -> web.Response:
        form = await self._form("introspect", request)
        if failure := self._failure("introspect"):
            return failure
        issued = self.tokens.get(form["token"])
        if issued is None:
            return web.json_response({"active": False})
        body = {"active": True, "hub_id": issued.portal_id, "app_id": self.app_id, "client_id": CLIENT_ID}
        return web.json_response(body | {"scopes": issued.scopes, "expires_in": 1800, "user_id": 7})

    async def _uninstall(self, request: web.Request) -> web.Response:
        self.calls.append(("uninstall", {}))
        if failure := self._failure("uninstall"):
            return failure
        known = self.tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if known is None:
            return web.Response(status=401)
        self.forget(known.portal_id)
        return web.Response(status=204)

    def forget(self, portal_id: int) -> None:
        """Uninstall the app from a portal: none of its tokens is valid any more."""
        for tokens in (self.tokens, self.refresh_tokens):
            for token in [token for token, issued in tokens.items() if issued.portal_id == portal_id]:
                del tokens[token]

    async def _form(self, name: str, request: web.Request) -> dict[str, str]:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.calls.append((name, form))
        return form

    def _failure(self, name: str) -> web.Response | None:
        if not (failures := self.failures.get(name)):
            return None
        status, body = failures.pop(0)
        return web.json_response(body, status=status, headers={"Retry-After": "7"} if status == 429 else {})


def _refusal(error: str, status: str) -> web.Response:
    return web.json_response({"error": error, "error_description": "refused", "status": status}, status=400)


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
