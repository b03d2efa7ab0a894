"""Check the access token: its portal, its scopes and the API calls left today. At most two calls to HubSpot."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.errors import CRMError, NotAuthorized
from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import token_fingerprint
from spokes.crm.scopes import Declaration, compare_scopes, required_scopes
from spokes.crm.transport.client import HubSpotClient
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.token_info import TokenInfo, token_info

TOPIC: Final = "hubspot"
_DAILY_WARNING_SHARE: Final = 0.8
_MAX_SKEW_S: Final = 15.0


async def check_hubspot(settings: Settings, declarations: Iterable[Declaration]) -> list[Finding]:
    """Read the token's details and today's usage; an unreachable HubSpot is a warning, not a fault."""
    token = settings.hubspot_access_token.get_secret_value()
    if not token and settings.hubspot_client_id:
        return []  # each portal has tokens of its own: installs_check
    if not token:
        return [
            fault(
                TOPIC,
                "HUBSPOT_ACCESS_TOKEN is not set: no worker starts, and events stay queued. Set it to the app's access "
                "token.",
            )
        ]
    fingerprint = token_fingerprint(settings)
    in_force = ok(
        TOPIC, f"Audit records name the access token by its fingerprint, {fingerprint}.", fingerprint=fingerprint
    )
    return [in_force, *await _check_token(settings, token, declarations)]


async def _check_token(settings: Settings, token: str, declarations: Iterable[Declaration]) -> list[Finding]:
    paths = Paths(settings.hubspot_api_version)
    client = HubSpotClient(
        api_url=settings.hubspot_api_url, token=token, timeout_s=min(settings.hubspot_timeout_s, 10.0), concurrency=1
    )
    try:
        info = await token_info(client, paths)
        usage = await _daily_usage(client, paths) if info else {}
    except NotAuthorized:
        return [
            fault(
                TOPIC,
                "HubSpot rejects the access token, so handlers cannot call HubSpot. Copy it again from the app's Auth "
                "page.",
            )
        ]
    finally:
        await client.close()
    if info is None:
        return [
            warning(
                TOPIC,
                "HubSpot cannot be reached, so token, scopes and usage are unknown. Events wait until it answers.",
            )
        ]
    return [
        *assess_token(info, settings.portal_ids),
        *assess_scopes(info, declarations),
        *assess_clock(info.clock_skew_s, settings.signature_max_age_s, settings.signature_max_skew_s),
        *assess_usage(usage),
    ]


def assess_token(info: TokenInfo, portal_ids: tuple[int, ...]) -> Iterator[Finding]:
    """Compare the token's portal with PORTAL_IDS."""
    if portal_ids and info.hub_id not in portal_ids:
        yield fault(
            TOPIC,
            f"The access token belongs to portal {info.hub_id}, which PORTAL_IDS does not list. Add the portal to "
            "PORTAL_IDS, or use the token of a listed portal.",
        )
    else:
        yield ok(TOPIC, f"The access token belongs to portal {info.hub_id}.", portal_id=info.hub_id)


def assess_scopes(info: TokenInfo, declarations: Iterable[Declaration]) -> Iterator[Finding]:
    """Compare the token's scopes with what the handlers declare."""
    if not info.scopes:
        yield warning(
            TOPIC, "HubSpot does not report this token's scopes, so they cannot be compared with the handlers' needs."
        )
        return
    comparison = compare_scopes(required_scopes(declarations), info.scopes)
    if comparison.missing:
        missing = ", ".join(comparison.missing_texts)
        yield fault(
            TOPIC,
            "The access token lacks scopes that handlers need, so their events become dead letters. Add these scopes "
            f"to the app in HubSpot: {missing}.",
            missing=missing,
        )
    if comparison.excess:
        excess = ", ".join(sorted(comparison.excess))
        yield warning(
            TOPIC,
            "The access token has scopes that no handler needs: a leaked token could do more harm. Remove these "
            f"scopes from the app in HubSpot: {excess}.",
            excess=excess,
        )
    if not comparison.missing and not comparison.excess:
        yield ok(TOPIC, "The access token has exactly the scopes that the handlers need.")


def assess_clock(skew_s: float | None, max_age_s: int, max_skew_s: int) -> Iterator[Finding]:
    """Compare HubSpot's clock with ours: the receiver refuses deliveries by the age of their timestamp.

    Args:
        skew_s: how far HubSpot's clock is ahead of ours; None if unknown.
        max_age_s: SIGNATURE_MAX_AGE_S.
        max_skew_s: SIGNATURE_MAX_SKEW_S.
    """
    if skew_s is None:
        return
    if -max_age_s < skew_s < max_skew_s:
        effect = "recorded and due times are wrong"
    else:
        effect = f"HubSpot's deliveries are refused as {'signed in the future' if skew_s > 0 else 'too old'}"
    if abs(skew_s) <= _MAX_SKEW_S:
        yield ok(TOPIC, f"The clocks of HubSpot and of this machine agree to {abs(skew_s):.0f} s.", skew_s=skew_s)
    else:
        level = warning if -max_age_s < skew_s < max_skew_s else fault
        yield level(
            TOPIC,
            f"The clocks of HubSpot and of this machine differ by {skew_s:+.0f} s, so {effect}. Synchronise this "
            "machine and those of all processes by NTP.",
            skew_s=skew_s,
        )


def assess_usage(usage: dict[str, Any]) -> Iterator[Finding]:
    """Assess today's usage; `usage` is HubSpot's object, empty if HubSpot does not report it."""
    limit, used = usage.get("usageLimit"), usage.get("currentUsage")
    if not isinstance(limit, int) or not isinstance(used, int) or limit <= 0:
        yield warning(TOPIC, "HubSpot does not report how many API calls were made today.")
        return
    until = f"; the count resets at {usage['resetsAt']}" if isinstance(usage.get("resetsAt"), str) else ""
    sentence = f"{used:,} of {limit:,} API calls of the day are used{until}."
    if used > limit * _DAILY_WARNING_SHARE:
        yield warning(
            TOPIC, f"{sentence} When the limit is reached, events wait for the reset.", used=used, limit=limit
        )
    else:
        yield ok(TOPIC, sentence, used=used, limit=limit)


async def _daily_usage(client: HubSpotClient, paths: Paths) -> dict[str, Any]:
    try:
        body = (await client.call("GET", paths.daily_usage())).body
    except CRMError:
        return {}
    results = body.get("results")
    first = results[0] if isinstance(results, list) and results else {}
    return first if isinstance(first, dict) else {}
