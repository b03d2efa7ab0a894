"""Check the portals that installed the app: states, scopes, tokens. Nothing is called at HubSpot."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from spokes.audit.sql.engine import open_engine
from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.console.installs.oauth_parts import portal_store
from spokes.console.installs.portal_views import read_portals
from spokes.core.errors import AuditUnavailable
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.crm.scopes import Declaration, ScopeRequirement, compare_scopes, required_scopes
from spokes.portals.store import REFRESH_INTERRUPTED, InstalledPortal, PortalState

TOPIC: Final = "installed portals"
_NAMED: Final = 20  # portals that a finding names


async def check_installs(settings: Settings, declarations: Iterable[Declaration]) -> list[Finding]:
    """Check every installed portal; no finding without HUBSPOT_CLIENT_ID."""
    if not settings.hubspot_client_id:
        return []
    engine = open_engine(settings.database_address)
    try:
        store = portal_store(settings, engine)
        portals, sealed = await read_portals(store), await store.sealed()
    except AuditUnavailable:
        return []  # audit_store_check reports it
    finally:
        await engine.dispose()
    found = [*assess_installs(portals, required_scopes(declarations)), *assess_tokens(sealed, store.vault)]
    if not settings.console_key.get_secret_value():
        sentence = "CONSOLE_KEY is not set, so no customer can install the app. Set it to `openssl rand -hex 32`."
        found.append(fault(TOPIC, sentence))
    return found


def assess_installs(portals: Collection[InstalledPortal], required: frozenset[ScopeRequirement]) -> Iterator[Finding]:
    """Assess states and scopes; portals with the same missing scopes share a finding."""
    refused = [portal for portal in portals if portal.state is PortalState.NEEDS_REINSTALL]
    interrupted = [portal.portal_id for portal in refused if portal.reason == REFRESH_INTERRUPTED]
    if interrupted:
        yield warning(
            TOPIC,
            f"HubSpot refuses the tokens of {_names(interrupted)}: it replaced them in a refresh whose answer did not "
            "arrive. Their events wait and become dead letters. Ask their administrators to open the install link "
            "again.",
            refresh_interrupted=len(interrupted),
        )
    revoked = [portal.portal_id for portal in refused if portal.reason != REFRESH_INTERRUPTED]
    if revoked:
        yield warning(
            TOPIC,
            f"HubSpot refuses the tokens of {_names(revoked)}: their events wait and become dead letters. Ask their "
            "administrators to open the install link again, or run `spokes portals disconnect`.",
            needs_reinstall=len(revoked),
        )
    missing: dict[str, list[int]] = {}
    for portal in portals:
        if portal.state is not PortalState.UNINSTALLED:
            for text in compare_scopes(required, frozenset(portal.scopes)).missing_texts:
                missing.setdefault(text, []).append(portal.portal_id)
    for text, portal_ids in sorted(missing.items()):
        yield warning(
            TOPIC,
            f"The scope {text} is missing in {_names(portal_ids)}: handlers that need it fail there. Add it to the "
            "app's required scopes, then have the app installed again.",
            missing_scope=len(portal_ids),
        )
    counts = Counter(portal.state.value for portal in portals)
    text = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(counts.items())) or "none"
    yield ok(TOPIC, f"Portals that installed the app: {text}.", **counts)


def assess_tokens(sealed: Sequence[tuple[int, bytes]], vault: Vault) -> Iterator[Finding]:
    """Assess by which key the tokens of each portal are sealed."""
    older = [(portal_id, tokens) for portal_id, tokens in sealed if not vault.uses_newest_key(tokens)]
    lost = [portal_id for portal_id, tokens in older if not vault.can_open(tokens)]
    if lost:
        yield fault(
            TOPIC,
            f"No key of SECRETS_KEY opens the tokens of {_names(lost)}, so their events are retried and none runs. Put "
            "the earlier key back behind the newest one, or have the app installed again.",
            unreadable=len(lost),
        )
    if len(older) > len(lost):
        sentence = f"The tokens of {len(older) - len(lost)} portals are sealed with an older key of SECRETS_KEY. Run "
        yield warning(TOPIC, f"{sentence}`spokes secrets reseal`.", older_key=len(older) - len(lost))


def _names(portal_ids: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(portal_ids)[:_NAMED]))
    more = f" and {len(portal_ids) - _NAMED} more" if len(portal_ids) > _NAMED else ""
    return f"portal{'s' if len(portal_ids) > 1 else ''} {shown}{more}"
