"""The check of the portals that installed the app."""

from dataclasses import replace
from pathlib import Path

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.console.doctor.findings import FindingLevel
from spokes.console.doctor.portals.hubspot_check import check_hubspot
from spokes.console.doctor.portals.installs_check import assess_installs, assess_tokens, check_installs
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portals.store import REFRESH_INTERRUPTED, InstalledPortal, PortalState

REQUIRED = frozenset({frozenset({"crm.objects.contacts.read"})})
OAUTH = {
    "HUBSPOT_ACCESS_TOKEN": "",
    "HUBSPOT_CLIENT_ID": "0c3f6d0c-2e8b-4e57-9c34-7a5e2d10b9f8",
    "SECRETS_KEY": "3f6d0c2e8b1a4e579c347a5e2d10b9f8",
}


def portal(portal_id: int, state: PortalState = PortalState.INSTALLED, *scopes: str) -> InstalledPortal:
    return InstalledPortal(portal_id, state, scopes or ("crm.objects.contacts.read",), 1, 1, "", 1)


def test_healthy_portals_are_one_finding() -> None:
    [finding] = assess_installs([portal(7), portal(8)], REQUIRED)
    assert (finding.level, finding.figures) == (FindingLevel.OK, {"installed": 2})


def test_portals_that_need_a_reinstall_are_named() -> None:
    portals = [portal(7), *(portal(number, PortalState.NEEDS_REINSTALL) for number in range(100, 130))]
    finding, _ = assess_installs(portals, REQUIRED)
    assert finding.level is FindingLevel.WARNING
    assert "portals 100, 101," in finding.sentence
    assert "119 and 10 more" in finding.sentence


def test_portals_whose_refresh_was_interrupted_are_named_apart() -> None:
    interrupted = replace(portal(8, PortalState.NEEDS_REINSTALL), reason=REFRESH_INTERRUPTED)
    first, second, _ = assess_installs([portal(7, PortalState.NEEDS_REINSTALL), interrupted], REQUIRED)
    assert "portal 8: it replaced them in a refresh whose answer did not arrive" in first.sentence
    assert ("portal 7:" in second.sentence, second.figures) == (True, {"needs_reinstall": 1})


def test_missing_scope_names_the_portals_that_lack_it() -> None:
    portals = [portal(7), portal(8, PortalState.INSTALLED, "oauth"), portal(9, PortalState.UNINSTALLED, "oauth")]
    finding, _ = assess_installs(portals, REQUIRED)
    assert "The scope crm.objects.contacts.read is missing in portal 8:" in finding.sentence


def test_tokens_of_lost_and_older_keys_are_named() -> None:
    newest, older, lost = (f"key-{number}-of-the-vault-that-is-long-enough" for number in range(3))
    sealed = [(number, Vault([key]).seal("{}")) for number, key in ((7, newest), (8, older), (9, lost))]
    unreadable, resealed = assess_tokens(sealed, Vault([newest, older]))
    assert (unreadable.level, "portal 9," in unreadable.sentence) == (FindingLevel.FAULT, True)
    assert (resealed.level, resealed.figures) == (FindingLevel.WARNING, {"older_key": 1})
    assert [*assess_tokens(sealed[:1], Vault([newest]))] == []


async def test_deployment_with_one_token_has_no_finding(settings: Settings) -> None:
    assert await check_installs(settings, []) == []


async def test_app_without_a_console_cannot_be_installed(environ: dict[str, str], tmp_path: Path) -> None:
    settings = Settings.from_env({**environ, **OAUTH})
    engine = open_engine(settings.database_address)
    await schema.upgrade(engine)
    await engine.dispose()
    count, missing_key = await check_installs(settings, [])
    assert count.sentence == "Portals that installed the app: none."
    assert (missing_key.level, "CONSOLE_KEY" in missing_key.sentence) == (FindingLevel.FAULT, True)


async def test_app_without_an_access_token_is_no_fault(environ: dict[str, str]) -> None:
    assert await check_hubspot(Settings.from_env({**environ, **OAUTH}), []) == []
