"""Claims of an identity provider as name, roles and portals of an actor."""

import pytest

from spokes.console.accounts.policy import Role
from spokes.console.identity.claims import actor_from_claims
from spokes.core.settings import Settings

GRANTS = {"OIDC_ISSUER": "https://login.example.com", "OIDC_ROLES": "ops=operator,dpo=privacy_officer,Ada@x.org=admin"}


def mapped(claims: dict[str, object], **overrides: str) -> tuple[str, set[Role], frozenset[int] | None]:
    actor = actor_from_claims({"sub": "7", **claims}, Settings.from_env({**GRANTS, **overrides}))
    return actor.name, set(actor.roles), actor.portals


def test_verified_email_gives_its_role_regardless_of_case() -> None:
    assert mapped({"email": "ADA@x.org", "email_verified": True}) == ("oidc:ADA@x.org", {Role.ADMIN}, None)


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_unverified_email_gives_no_role(verified: object) -> None:
    assert mapped({"email": "ada@x.org", "email_verified": verified}) == ("oidc:7", set(), None)


def test_unmapped_claim_values_give_no_role() -> None:
    assert mapped({"roles": ["admin", "viewer", "opsx", 7, None, {"ops": 1}]})[1] == set()


def test_several_groups_give_several_roles() -> None:
    assert mapped({"roles": "ops dpo"})[1] == {Role.OPERATOR, Role.PRIVACY_OFFICER}


def test_roles_are_read_from_a_nested_claim_or_a_name_with_dots() -> None:
    assert mapped({"realm_access": {"roles": ["ops"]}}, OIDC_ROLES_CLAIM="realm_access.roles")[1] == {Role.OPERATOR}
    assert mapped({"https://x.org/roles": ["dpo"]}, OIDC_ROLES_CLAIM="https://x.org/roles")[1] == {Role.PRIVACY_OFFICER}


@pytest.mark.parametrize(
    "claims", [{}, {"portals": None}, {"portals": "all"}, {"portals": True}, {"portals": [-7, "x"]}]
)
def test_portal_claim_without_portal_ids_gives_no_portal(claims: dict[str, object]) -> None:
    assert mapped(claims, OIDC_PORTALS_CLAIM="portals")[2] == frozenset()


@pytest.mark.parametrize("portals", [[7, "8"], "7 8"])
def test_portal_claim_gives_its_portals(portals: object) -> None:
    assert mapped({"portals": portals}, OIDC_PORTALS_CLAIM="portals")[2] == {7, 8}
