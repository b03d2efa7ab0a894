"""An identity provider for tests, over real HTTP: discovery, keys, the authorization code flow with PKCE.

Its login needs no password: every browser is logged in as `person`. It rejects requests that violate the standards.
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


def generate_key() -> RSAPrivateKey:
    """Return an RSA key of a provider's usual size."""
    return generate_private_key(public_exponent=65537, key_size=2048)


FIRST, SECOND = generate_key(), generate_key()  # generated once: it is slow


@dataclass
class IdentityProvider:
    """The provider; a test sets the fields that it is about."""

    keys: dict[str, RSAPrivateKey] = field(default_factory=lambda: {"first": FIRST})
    person: dict[str, Any] = field(default_factory=lambda: dict(ADA))
    discovery_overrides: dict[str, Any] = field(default_factory=dict)  # fields of the document to replace
    id_token_overrides: dict[str, Any] = field(default_factory=dict)  # claims of the ID token to replace
    key_document: Any = None  # replaces the whole key document
    redirects_keys: bool = False  # whether the key document redirects
    shows_consent_page: bool = False  # whether the user must confirm on a page, as with most providers
    requests: list[str] = field(default_factory=list)
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
        """The issuer, which is its address."""
        if not self._issuer:
            self._issuer = str(self.server.make_url("/"))
        return self._issuer

    def environ(self) -> dict[str, str]:
        """Return the settings of a deployment that trusts this provider."""
        return {
            "OIDC_ISSUER": self.issuer,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_CLIENT_ID": CLIENT_ID,
            "OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "OIDC_ROLES": "ops-team=operator,dpo=privacy_officer,grace@example.com=admin",
        }

    def token(self, key: Any = None, algorithm: str = "RS256", kid: str | None = "first", **changed: object) -> str:
        """Return a token for the API; a claim set to None is left out."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "iat": now, "exp": now + 300, **self.person, **changed}
        headers = {} if kid is None else {"kid": kid}
        present = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(present, key or FIRST, algorithm, headers=headers)

    async def _discovery(self, _: web.Request) -> web.Response:
        self.requests.append("discovery")
        document = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}keys",
            "authorization_endpoint": f"{self.issuer}authorize",
            "token_endpoint": f"{self.issuer}token",
            **self.discovery_overrides,
        }
        return web.json_response(document)

    async def _keys(self, request: web.Request) -> web.Response:
        self.requests.append("keys")
        if self.redirects_keys and request.path == "/keys":
            raise web.HTTPFound("/elsewhere")
        keys = [
            {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        return web.json_response({"keys": keys} if self.key_document is None else self.key_document)

    async def _authorize(self, request: web.Request) -> web.Response:
        parameters = dict(request.query)
        assert parameters["response_type"] == "code"
        assert parameters["client_id"] == CLIENT_ID
        assert "openid" in parameters["scope"].split()
        assert parameters["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self._codes[code] = parameters
        back = urlencode({"code": code, "state": parameters["state"], "iss": self.issuer})
        callback = f"{parameters['redirect_uri']}?{back}"
        if self.shows_consent_page:
            link = f'<a href="{html.escape(callback)}">Yes, that is me</a>'
            return web.Response(text=link, content_type="text/html")
        return web.Response(status=302, headers={"Location": callback})

    async def _token(self, request: web.Request) -> web.Response:
        self.requests.append("token")
        form = await request.post()
        parameters = self._codes.pop(str(form.get("code")), None)  # a code is valid once
        methods = self.discovery_overrides.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if methods == ["client_secret_basic"]:
            is_authenticated = request.headers.get("Authorization") == f"Basic {basic}"
        else:
            is_authenticated = form.get("client_secret") == CLIENT_SECRET
        if not is_authenticated:
            return web.json_response({"error": "invalid_client"}, status=401)
        verifier = str(form.get("code_verifier", "")).encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
        if (
            parameters is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != parameters["redirect_uri"]
            or challenge != parameters["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {"aud": CLIENT_ID, "nonce": parameters.get("nonce"), **self.id_token_overrides}
        tokens = {"access_token": "opaque", "token_type": "Bearer", "id_token": self.token(**claims)}
        return web.json_response(tokens)
