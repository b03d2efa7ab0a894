"""Bearer tokens of an identity provider: which are accepted, and when its keys are fetched."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spokes.console.accounts.actors import Actor
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.identity.bearer_tokens import verify_bearer_token
from spokes.console.identity.cached_value import MIN_INTERVAL_S
from spokes.console.identity.http_client import ProviderClient
from spokes.console.identity.provider import Provider, usable_keys
from spokes.core.errors import HttpProblem
from spokes.core.settings import Settings
from tests.support.console_visitor import KEY
from tests.support.identity_provider import CLIENT_ID, FIRST, SECOND, IdentityProvider

PUBLIC = FIRST.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Verifier:
    """A deployment that trusts the provider."""

    def __init__(self, idp: IdentityProvider, client: ProviderClient, environ: dict[str, str]) -> None:
        self.idp, self.settings = idp, Settings.from_env({**environ, "CONSOLE_KEY": KEY, **idp.environ()})
        self.provider = Provider(self.settings, client)

    async def accept(self, token: str) -> Actor:
        return await verify_bearer_token(token, self.settings, self.provider)

    async def refuse(self, token: str) -> int:
        with pytest.raises(HttpProblem) as problem:
            await self.accept(token)
        return problem.value.status


@pytest.fixture
async def verifier(environ: dict[str, str]) -> AsyncIterator[Verifier]:
    idp, client = IdentityProvider(), ProviderClient()
    async with idp.server:
        yield Verifier(idp, client, environ)
        await client.close()


async def test_provider_token_gives_name_roles_and_portals(verifier: Verifier) -> None:
    actor = await verifier.accept(verifier.idp.token())
    assert (actor.name, actor.roles, actor.portals) == ("oidc:ada@example.com", {Role.OPERATOR}, None)


async def test_our_own_tokens_are_accepted_beside_provider_tokens(verifier: Verifier) -> None:
    actor = await verifier.accept(ApiTokens.from_settings(verifier.settings).mint("robot", [Role.VIEWER]).token)
    assert (actor.name, verifier.idp.requests) == ("robot", [])


async def test_token_for_several_audiences_is_accepted(verifier: Verifier) -> None:
    token = verifier.idp.token(aud=["another", verifier.settings.oidc_audience])
    assert (await verifier.accept(token)).roles == {Role.OPERATOR}


NOW = int(time.time())
Forge = Callable[[IdentityProvider], str]
FORGED: dict[str, Forge] = {
    "another key under a known name": lambda idp: idp.token(SECOND),
    "a key that the provider does not have": lambda idp: idp.token(SECOND, kid="second"),
    "no name of a key": lambda idp: idp.token(kid=None),
    "a name of a key that is none": lambda idp: idp.token(kid="../first"),
    "another algorithm of the same key": lambda idp: idp.token(algorithm="RS512"),
    "padding of another kind": lambda idp: idp.token(algorithm="PS256"),
    "the public key as secret": lambda idp: hmac_signed(idp, "HS256"),
    "the public key as secret, called RS256": lambda idp: hmac_signed(idp, "HS256", alg="RS256"),
    "our own key's algorithm": lambda idp: idp.token(b"k" * 64, "HS256"),
    "none": lambda idp: jwt.encode({"iss": idp.issuer, "sub": "x"}, None, "none", headers={"kid": "first"}),
    "expired": lambda idp: idp.token(iat=NOW - 7000, exp=NOW - 3600),
    "never expires": lambda idp: idp.token(exp=None),
    "valid for too long": lambda idp: idp.token(exp=NOW + 86_400),
    "no time of its making": lambda idp: idp.token(iat=None),
    "from the future": lambda idp: idp.token(iat=NOW + 3600, exp=NOW + 7000),
    "not yet": lambda idp: idp.token(nbf=NOW + 3600),
    "another audience": lambda idp: idp.token(aud="another"),
    "the token of a login": lambda idp: idp.token(aud=CLIENT_ID),
    "no audience": lambda idp: idp.token(aud=None),
    "another issuer": lambda idp: idp.token(iss="https://login.example.com/"),
    "the issuer without its slash": lambda idp: idp.token(iss=idp.issuer.rstrip("/")),
    "our own issuer": lambda idp: idp.token(iss="spokes", aud="spokes-api", jti="1", roles=["admin"]),
    "no issuer": lambda idp: idp.token(iss=None),
    "nobody": lambda idp: idp.token(sub=None),
    "a number for a name": lambda idp: idp.token(sub=7),
    "times that are no numbers": lambda idp: idp.token(iat="soon"),
    "too long": lambda idp: idp.token(roles=["x" * 20_000]),
    "cut off": lambda idp: idp.token()[:-4],
}


def hmac_signed(idp: IdentityProvider, algorithm: str, **header: str) -> str:
    """Sign with the public key as HMAC secret; PyJWT refuses to do this, so the test computes the signature."""
    head, claims, _ = idp.token().split(".")
    head = jwt.utils.base64url_encode(orjson.dumps({"alg": algorithm, "kid": "first", **header})).decode()
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{head}.{claims}".encode(), PUBLIC
    )
    return f"{head}.{claims}.{jwt.utils.base64url_encode(signature).decode()}"


@pytest.mark.parametrize("case", FORGED)
async def test_token_is_refused_for(verifier: Verifier, case: str) -> None:
    assert await verifier.refuse(FORGED[case](verifier.idp)) == 401


async def test_keys_are_fetched_once_for_many_tokens(verifier: Verifier) -> None:
    await asyncio.gather(*(verifier.accept(verifier.idp.token()) for _ in range(20)))
    assert verifier.idp.requests == ["discovery", "keys"]


async def test_unknown_key_ids_do_not_refetch_the_keys(verifier: Verifier) -> None:
    assert [await verifier.refuse(verifier.idp.token(SECOND, kid=f"k{number}")) for number in range(20)] == [401] * 20
    assert verifier.idp.requests == ["discovery", "keys"]


async def test_rotated_key_is_fetched_after_the_interval_and_the_old_one_refused(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verifier.accept(verifier.idp.token())
    verifier.idp.keys = {"second": SECOND}
    shifted = time.monotonic() + MIN_INTERVAL_S + 1
    monkeypatch.setattr(verifier.provider._keys, "_clock", lambda: shifted)
    assert (await verifier.accept(verifier.idp.token(SECOND, kid="second"))).roles
    assert await verifier.refuse(verifier.idp.token()) == 401


@pytest.mark.parametrize(
    "document",
    [{"keys": "none"}, {}, []],
    ids=["no list", "no keys", "no object"],
)
async def test_malformed_key_document_is_503(verifier: Verifier, document: Any) -> None:
    verifier.idp.key_document = document
    assert await verifier.refuse(verifier.idp.token()) == 503


@pytest.mark.parametrize(
    "overrides",
    [
        {"issuer": "https://login.example.com/"},
        {"jwks_uri": "http://login.example.com/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 7},
    ],
    ids=["another issuer", "keys in clear", "keys from a file", "nonsense"],
)
async def test_unsafe_discovery_document_is_503(verifier: Verifier, overrides: dict[str, object]) -> None:
    verifier.idp.discovery_overrides = overrides
    assert await verifier.refuse(verifier.idp.token()) == 503


async def test_redirect_of_the_key_document_is_not_followed(verifier: Verifier) -> None:
    verifier.idp.redirects_keys = True
    assert await verifier.refuse(verifier.idp.token()) == 503


async def test_unavailable_provider_is_503_unless_the_keys_are_cached(verifier: Verifier) -> None:
    token = verifier.idp.token()
    await verifier.accept(token)
    await verifier.idp.server.close()
    assert (await verifier.accept(token)).roles
    verifier.provider = Provider(verifier.settings, verifier.provider.client)
    assert await verifier.refuse(token) == 503


def test_keys_of_another_type_or_use_are_ignored() -> None:
    good = {**jwt.algorithms.RSAAlgorithm.to_jwk(FIRST.public_key(), as_dict=True), "kid": "good"}
    others = [
        {**good, "kid": "encrypts", "use": "enc"},
        {**good, "kid": "another algorithm", "alg": "RSA-OAEP"},
        {**good, "kid": 7},
        {**good, "kid": "broken", "n": "!"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        "nonsense",
        None,
    ]
    assert set(usable_keys([good, *others])) == {"good"}


async def test_key_that_is_too_short_is_refused(verifier: Verifier) -> None:
    short = generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - the test is about short keys
    verifier.idp.keys = {"first": short}
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = verifier.idp.token(short)
    assert await verifier.refuse(token) == 401
