"""spokes.console.identity: which tokens of an identity provider the API believes, and whom they make here."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.identity.bearer_tokens import verify_bearer_token
from spokes.console.identity.cached_value import MIN_INTERVAL_S, CachedValue
from spokes.console.identity.claims import actor_from_claims
from spokes.console.identity.http_client import ProviderClient, provider_unavailable
from spokes.console.identity.provider import Provider, usable_keys
from spokes.core.errors import HttpProblem
from spokes.core.settings import Settings
from tests.support.console_visitor import KEY
from tests.support.identity_provider import CLIENT_ID, FIRST, SECOND, IdentityProvider

PUBLIC = FIRST.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class House:
    """A deployment that trusts the provider."""

    def __init__(self, idp: IdentityProvider, wire: ProviderClient, environ: dict[str, str]) -> None:
        self.idp, self.settings = idp, Settings.from_env({**environ, "CONSOLE_KEY": KEY, **idp.environ()})
        self.provider = Provider(self.settings, wire)

    async def refuses(self, token: str) -> int:
        with pytest.raises(HttpProblem) as refused:
            await verify_bearer_token(token, self.settings, self.provider)
        return refused.value.status


@pytest.fixture
async def house(environ: dict[str, str]) -> AsyncIterator[House]:
    idp, wire = IdentityProvider(), ProviderClient()
    async with idp.server:
        yield House(idp, wire, environ)
        await wire.close()


async def test_provider_token_gives_name_roles_and_portals(house: House) -> None:
    actor = await verify_bearer_token(house.idp.token(), house.settings, house.provider)
    assert (actor.name, actor.roles, actor.portals) == ("oidc:ada@example.com", {Role.OPERATOR}, None)


async def test_our_own_tokens_are_accepted_beside_provider_tokens(house: House) -> None:
    actor = await verify_bearer_token(
        ApiTokens.from_settings(house.settings).mint("robot", [Role.VIEWER]).token, house.settings, house.provider
    )
    assert (actor.name, house.idp.asked) == ("robot", [])


async def test_token_for_several_audiences_is_accepted(house: House) -> None:
    token = house.idp.token(aud=["another", house.settings.oidc_audience])
    assert (await verify_bearer_token(token, house.settings, house.provider)).roles == {Role.OPERATOR}


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
    "lives too long": lambda idp: idp.token(exp=NOW + 86_400),
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
    """Forge with what everybody knows: PyJWT itself refuses to, so the signature is made by hand."""
    head, claims, _ = idp.token().split(".")
    head = jwt.utils.base64url_encode(orjson.dumps({"alg": algorithm, "kid": "first", **header})).decode()
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{head}.{claims}".encode(), PUBLIC
    )
    return f"{head}.{claims}.{jwt.utils.base64url_encode(signature).decode()}"


@pytest.mark.parametrize("why", FORGED)
async def test_token_is_refused_for(house: House, why: str) -> None:
    assert await house.refuses(FORGED[why](house.idp)) == 401


async def test_keys_are_fetched_once_for_many_tokens(house: House) -> None:
    await asyncio.gather(*(verify_bearer_token(house.idp.token(), house.settings, house.provider) for _ in range(20)))
    assert house.idp.asked == ["discovery", "keys"]


async def test_unknown_key_ids_do_not_refetch_the_keys(house: House) -> None:
    assert [await house.refuses(house.idp.token(SECOND, kid=f"k{number}")) for number in range(20)] == [401] * 20
    assert house.idp.asked == ["discovery", "keys"]


async def test_rotated_key_is_fetched_after_the_interval_and_the_old_one_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verify_bearer_token(house.idp.token(), house.settings, house.provider)
    house.idp.keys = {"second": SECOND}
    shifted = time.monotonic() + MIN_INTERVAL_S + 1
    monkeypatch.setattr(house.provider._keys, "_clock", lambda: shifted)
    assert (await verify_bearer_token(house.idp.token(SECOND, kid="second"), house.settings, house.provider)).roles
    assert await house.refuses(house.idp.token()) == 401


@pytest.mark.parametrize(
    "document",
    [{"keys": "none"}, {}, []],
    ids=["no list", "no keys", "no object"],
)
async def test_malformed_key_document_is_503(house: House, document: Any) -> None:
    house.idp.jwks = document
    assert await house.refuses(house.idp.token()) == 503


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://login.example.com/"},
        {"jwks_uri": "http://login.example.com/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 7},
    ],
    ids=["another issuer", "keys in clear", "keys from a file", "nonsense"],
)
async def test_unsafe_discovery_document_is_503(house: House, told: dict[str, object]) -> None:
    house.idp.discovery = told
    assert await house.refuses(house.idp.token()) == 503


async def test_redirect_of_the_key_document_is_not_followed(house: House) -> None:
    house.idp.moved = True
    assert await house.refuses(house.idp.token()) == 503


async def test_unavailable_provider_is_503_unless_the_keys_are_cached(house: House) -> None:
    token = house.idp.token()
    await verify_bearer_token(token, house.settings, house.provider)
    await house.idp.server.close()
    assert (await verify_bearer_token(token, house.settings, house.provider)).roles
    house.provider = Provider(house.settings, house.provider.client)
    assert await house.refuses(token) == 503


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


async def test_key_that_is_too_short_is_refused(house: House) -> None:
    short = generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that it is too short is what the test is about
    house.idp.keys = {"first": short}
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = house.idp.token(short)
    assert await house.refuses(token) == 401


class Source:
    """Something to fetch, and a clock."""

    def __init__(self) -> None:
        self.now, self.fetched, self.away = 0.0, 0, False
        self.kept = CachedValue(self.fetch, fresh_s=600, clock=lambda: self.now)

    async def fetch(self) -> int:
        self.fetched += 1
        if self.away:
            raise provider_unavailable()
        return self.fetched * 1000


async def test_cached_value_is_fetched_again_when_it_is_old() -> None:
    source = Source()
    assert [await source.kept.get() for _ in range(3)] == [1000] * 3
    source.now = 601
    assert await source.kept.get() == 2000


async def test_cached_value_is_used_for_an_hour_while_fetches_fail() -> None:
    source = Source()
    await source.kept.get()
    source.away, source.now = True, 3500
    assert await source.kept.get() == 1000
    source.now = 3601
    with pytest.raises(HttpProblem):
        await source.kept.get()


async def test_failed_fetch_is_not_repeated_by_every_caller() -> None:
    source = Source()
    source.away = True
    for _ in range(10):
        with pytest.raises(HttpProblem):
            await source.kept.get()
    assert source.fetched == 1
    source.away, source.now = False, 5
    assert await source.kept.get() == 2000


GRANTS = {"OIDC_ISSUER": "https://login.example.com", "OIDC_ROLES": "ops=operator,dpo=privacy_officer,Ada@x.org=admin"}


def made(claims: dict[str, object], **given: str) -> tuple[str, set[Role], frozenset[int] | None]:
    actor = actor_from_claims({"sub": "7", **claims}, Settings.from_env({**GRANTS, **given}))
    return actor.name, set(actor.roles), actor.portals


def test_verified_email_gives_its_role_regardless_of_case() -> None:
    assert made({"email": "ADA@x.org", "email_verified": True}) == ("oidc:ADA@x.org", {Role.ADMIN}, None)


@pytest.mark.parametrize("word", [False, None, "true", 1])
def test_unverified_email_gives_no_role(word: object) -> None:
    assert made({"email": "ada@x.org", "email_verified": word}) == ("oidc:7", set(), None)


def test_unmapped_claim_values_give_no_role() -> None:
    assert made({"roles": ["admin", "viewer", "opsx", 7, None, {"ops": 1}]})[1] == set()


def test_several_groups_give_several_roles() -> None:
    assert made({"roles": "ops dpo"})[1] == {Role.OPERATOR, Role.PRIVACY_OFFICER}


def test_roles_are_read_from_a_nested_claim_or_a_name_with_dots() -> None:
    assert made({"realm_access": {"roles": ["ops"]}}, OIDC_ROLES_CLAIM="realm_access.roles")[1] == {Role.OPERATOR}
    assert made({"https://x.org/roles": ["dpo"]}, OIDC_ROLES_CLAIM="https://x.org/roles")[1] == {Role.PRIVACY_OFFICER}


@pytest.mark.parametrize("told", [{}, {"portals": None}, {"portals": "all"}, {"portals": True}, {"portals": [-7, "x"]}])
def test_portal_claim_without_portal_ids_gives_no_portal(told: dict[str, object]) -> None:
    assert made(told, OIDC_PORTALS_CLAIM="portals")[2] == frozenset()


@pytest.mark.parametrize("told", [[7, "8"], "7 8"])
def test_portal_claim_gives_its_portals(told: object) -> None:
    assert made({"portals": told}, OIDC_PORTALS_CLAIM="portals")[2] == {7, 8}
