"""API tokens: which are accepted, and which are refused."""

import base64
import json
import time
from collections.abc import Mapping

import jwt
import pytest

from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.core.errors import HttpProblem

KEY = b"k" * 64
TOKENS = ApiTokens(KEY)


def forged(key: bytes = KEY, algorithm: str = "HS256", **changed: object) -> str:
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": "spokes", "aud": "spokes-api", "sub": "ada", "iat": now, "exp": now + 60, "jti": "1",
        "roles": ["viewer"],
    }  # fmt: skip
    claims |= changed
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm)


def without_signature(**header: str) -> str:
    payload = forged().split(".")[1]
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{head}.{payload}."


def test_minted_token_gives_name_roles_and_portals() -> None:
    actor = TOKENS.verify(TOKENS.mint("ada", [Role.OPERATOR], [7, 8]).token)
    assert (actor.name, actor.roles, actor.portals, actor.csrf_token) == ("ada", {Role.OPERATOR}, {7, 8}, "")


def test_token_without_a_portal_list_sees_all_portals() -> None:
    assert TOKENS.verify(TOKENS.mint("ada", [Role.VIEWER]).token).portals is None


def test_token_with_an_empty_portal_list_sees_no_portal() -> None:
    assert TOKENS.verify(TOKENS.mint("ada", [Role.VIEWER], []).token).portals == frozenset()


_NOW = time.time()
REFUSED: Mapping[str, str] = {
    "another key": forged(key=b"x" * 64),
    "another algorithm": forged(algorithm="HS512"),
    "none": without_signature(alg="none", typ="JWT"),
    "None": without_signature(alg="None", typ="JWT"),
    "no algorithm": without_signature(typ="JWT"),
    "a public key as secret": without_signature(alg="RS256", typ="JWT"),
    "expired": forged(exp=int(_NOW) - 3600, iat=int(_NOW) - 7000),
    "never expires": forged(exp=None),
    "valid for too long": forged(exp=int(_NOW) + 86_400),
    "from the future": forged(iat=int(_NOW) + 3600, exp=int(_NOW) + 7000),
    "another audience": forged(aud="another"),
    "several audiences": forged(aud=["spokes-api", "another"]),
    "no audience": forged(aud=None),
    "another issuer": forged(iss="another"),
    "no issuer": forged(iss=None),
    "no name": forged(sub=""),
    "no role": forged(roles=None),
    "an invented role": forged(roles=["owner"]),
    "roles of lists": forged(roles=[["admin"]]),
    "roles as text": forged(roles="admin"),
    "portals as text": forged(portals="7"),
    "portals of texts": forged(portals=["7"]),
    "too long": "a" * 5000,
    "nonsense": "a.b.c",
    "nothing": "",
    "not ascii": "\udcff.é.ü",
}


@pytest.mark.parametrize("case", REFUSED)
def test_token_is_refused_when(case: str) -> None:
    with pytest.raises(HttpProblem) as problem:
        TOKENS.verify(REFUSED[case])
    assert problem.value.status == 401


def test_token_whose_claims_were_changed_is_refused() -> None:
    head, _, signature = TOKENS.mint("ada", [Role.VIEWER]).token.split(".")
    changed = forged(roles=["admin"]).split(".")[1]
    with pytest.raises(HttpProblem):
        TOKENS.verify(f"{head}.{changed}.{signature}")
