"""An identity provider for tests, over real HTTP: discovery, keys, the authorization code flow with PKCE.

Whoever comes to its login is already logged in there, as `person`. It holds clients to what the standards ask of them.
"""

import base64
import hashlib
import html
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

AUDIENCE = "spokes-api-of-ours"
CLIENT_ID = "spokes-console"
CLIENT_SECRET = "the-secret-of-the-console-at-the-provider"
ADA = {"sub": "248289761001", "email": "ada@example.com", "email_verified": True, "roles": ["ops-team"]}


def made_key() -> RSAPrivateKey:
    """Return a key as providers have them."""
    return generate_private_key(public_exponent=65537, key_size=2048)


FIRST, SECOND = made_key(), made_key()  # made once: it takes a while


@dataclass
class IdentityProvider:
    """What it says and does; a test changes what it is about."""

    keys: dict[str, RSAPrivateKey] = field(default_factory=lambda: {"first": FIRST})
    person: dict[str, Any] = field(default_factory=lambda: dict(ADA))
    discovery: dict[str, Any] = field(default_factory=dict)  # what the document says otherwise
    id_token: dict[str, Any] = field(default_factory=dict)  # what the token of a login says otherwise
    jwks: Any = None  # the whole document of keys, where it is another
    moved: bool = False  # whether the keys are said to be elsewhere
    asks: bool = False  # whether somebody has to say yes on a page of its own, as with most providers
    asked: list[str] = field(default_factory=list)
    _codes: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_get("/elsewhere", self._keys)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        self.server = TestServer(app)
        self._issuer = ""

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        if not self._issuer:
            self._issuer = str(self.server.make_url("/"))
        return self._issuer

    def environ(self) -> dict[str, str]:
        """Return the settings with which a deployment trusts it."""
        return {
            "OIDC_ISSUER": self.issuer,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_CLIENT_ID": CLIENT_ID,
            "OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "OIDC_ROLES": "ops-team=operator,dpo=privacy_officer,grace@example.com=admin",
        }

    def token(self, key: Any = None, algorithm: str = "RS256", kid: str | None = "first", **changed: object) -> str:
        """Return a token for the API; a claim that is changed to None is not there."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "iat": now, "exp": now + 300, **self.person, **changed}
        headers = {} if kid is None else {"kid": kid}
        told = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(told, key or FIRST, algorithm, headers=headers)

    async def _discovery(self, _: web.Request) -> web.Response:
        self.asked.append("discovery")
        told = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}keys",
            "authorization_endpoint": f"{self.issuer}authorize",
            "token_endpoint": f"{self.issuer}token",
            **self.discovery,
        }
        return web.json_response(told)

    async def _keys(self, request: web.Request) -> web.Response:
        self.asked.append("keys")
        if self.moved and request.path == "/keys":
            raise web.HTTPFound("/elsewhere")
        keys = [
            {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        return web.json_response({"keys": keys} if self.jwks is None else self.jwks)

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self._codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        place = f"{asked['redirect_uri']}?{back}"
        if self.asks:
            link = f'<a href="{html.escape(place)}">Yes, that is me</a>'
            return web.Response(text=link, content_type="text/html")
        return web.Response(status=302, headers={"Location": place})

    async def _token(self, request: web.Request) -> web.Response:
        self.asked.append("token")
        form = await request.post()
        asked = self._codes.pop(str(form.get("code")), None)  # a code opens once
        methods = self.discovery.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if methods == ["client_secret_basic"]:
            knows = request.headers.get("Authorization") == f"Basic {basic}"
        else:
            knows = form.get("client_secret") == CLIENT_SECRET
        if not knows:
            return web.json_response({"error": "invalid_client"}, status=401)
        verifier = str(form.get("code_verifier", "")).encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
        if (
            asked is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge != asked["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {"aud": CLIENT_ID, "nonce": asked.get("nonce"), **self.id_token}
        told = {"access_token": "opaque", "token_type": "Bearer", "id_token": self.token(**claims)}
        return web.json_response(told)
