"""spokes.console.doctor.identity_check: what doctor says of an identity provider."""

from collections.abc import AsyncIterator

import pytest

from spokes.console.doctor.findings import Finding, FindingLevel
from spokes.console.doctor.identity_check import check_identity_provider
from spokes.core.settings import Settings
from tests.support.identity_provider import IdentityProvider


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    idp = IdentityProvider()
    async with idp.server:
        yield idp


async def look(idp: IdentityProvider, environ: dict[str, str], **given: str) -> Finding:
    [found] = await check_identity_provider(Settings.from_env({**environ, **idp.environ(), **given}))
    return found


async def test_without_one_there_is_nothing_to_say(settings: Settings) -> None:
    assert await check_identity_provider(settings) == []


async def test_one_that_answers_is_well(idp: IdentityProvider, environ: dict[str, str]) -> None:
    found = await look(idp, environ)
    assert (found.level, found.figures) == (FindingLevel.OK, {"keys": 1})


async def test_one_that_calls_itself_otherwise_is_worth_a_look(idp: IdentityProvider, environ: dict[str, str]) -> None:
    found = await look(idp, environ, OIDC_ISSUER=idp.issuer.rstrip("/"))
    assert (found.level, "to the last slash" in found.sentence) == (FindingLevel.WARNING, True)


async def test_one_that_is_away_is_worth_a_look(idp: IdentityProvider, environ: dict[str, str]) -> None:
    assert idp.issuer
    await idp.server.close()
    assert (await look(idp, environ)).level is FindingLevel.WARNING


async def test_one_that_cannot_sign_as_we_read_is_worth_a_look(idp: IdentityProvider, environ: dict[str, str]) -> None:
    idp.keys = {}
    assert "RS256" in (await look(idp, environ)).sentence


async def test_one_that_logs_nobody_in_is_worth_a_look(idp: IdentityProvider, environ: dict[str, str]) -> None:
    idp.discovery = {"token_endpoint": ""}
    found = await check_identity_provider(Settings.from_env({**environ, **idp.environ()}))
    assert [one.level for one in found] == [FindingLevel.OK, FindingLevel.WARNING]


async def test_one_that_is_used_for_nothing_is_worth_a_look(idp: IdentityProvider, environ: dict[str, str]) -> None:
    unused = {"OIDC_AUDIENCE": "", "OIDC_CLIENT_ID": "", "OIDC_CLIENT_SECRET": ""}
    assert "alone does nothing" in (await look(idp, environ, **unused)).sentence
