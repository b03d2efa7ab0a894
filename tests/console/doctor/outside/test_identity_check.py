"""The check of the identity provider: every problem is a warning."""

from spokes.console.doctor.findings import Finding, FindingLevel
from spokes.console.doctor.outside.identity_check import check_identity_provider
from spokes.core.settings import Settings
from tests.support.identity_provider import IdentityProvider


async def check(idp: IdentityProvider, environ: dict[str, str], **overrides: str) -> Finding:
    """Return the only finding."""
    [finding] = await check_identity_provider(Settings.from_env({**environ, **idp.environ(), **overrides}))
    return finding


async def test_without_a_provider_there_is_no_finding(settings: Settings) -> None:
    assert await check_identity_provider(settings) == []


async def test_working_provider_is_ok(idp: IdentityProvider, environ: dict[str, str]) -> None:
    finding = await check(idp, environ)
    assert (finding.level, finding.figures) == (FindingLevel.OK, {"keys": 1})


async def test_issuer_without_its_trailing_slash_is_a_warning(idp: IdentityProvider, environ: dict[str, str]) -> None:
    finding = await check(idp, environ, OIDC_ISSUER=idp.issuer.rstrip("/"))
    assert (finding.level, "a trailing slash counts" in finding.sentence) == (FindingLevel.WARNING, True)


async def test_unreachable_provider_is_a_warning(idp: IdentityProvider, environ: dict[str, str]) -> None:
    assert idp.issuer
    await idp.server.close()
    assert (await check(idp, environ)).level is FindingLevel.WARNING


async def test_provider_without_rs256_key_is_a_warning(idp: IdentityProvider, environ: dict[str, str]) -> None:
    idp.keys = {}
    assert "RS256" in (await check(idp, environ)).sentence


async def test_provider_without_login_endpoint_is_a_warning(idp: IdentityProvider, environ: dict[str, str]) -> None:
    idp.discovery_overrides = {"token_endpoint": ""}
    findings = await check_identity_provider(Settings.from_env({**environ, **idp.environ()}))
    assert [finding.level for finding in findings] == [FindingLevel.OK, FindingLevel.WARNING]


async def test_unused_provider_is_a_warning(idp: IdentityProvider, environ: dict[str, str]) -> None:
    unused = {"OIDC_AUDIENCE": "", "OIDC_CLIENT_ID": "", "OIDC_CLIENT_SECRET": ""}
    assert "alone has no effect" in (await check(idp, environ, **unused)).sentence
