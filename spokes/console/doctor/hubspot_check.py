"""May we work for the portal: token, scopes, what is left of the day. Rule: two calls, and HubSpot down is no fault."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.errors import CRMError, NotAuthorized
from spokes.core.settings import Settings
from spokes.crm.scopes import Declaration, compare_scopes, required_scopes
from spokes.crm.transport.client import HubSpotClient
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.token_info import TokenInfo, token_info

TOPIC: Final = "hubspot"
_DAILY_WARNING_SHARE: Final = 0.8


async def check_hubspot(settings: Settings, declarations: Iterable[Declaration]) -> list[Finding]:
    """Ask HubSpot who we are and how much we have called."""
    token = settings.hubspot_access_token.get_secret_value()
    if not token:
        return [fault(TOPIC, "HUBSPOT_ACCESS_TOKEN is not set: no worker starts, and events wait.")]
    paths = Paths(settings.hubspot_api_version)
    client = HubSpotClient(
        api_url=settings.hubspot_api_url, token=token, timeout_s=min(settings.hubspot_timeout_s, 10.0), concurrency=1
    )
    try:
        info = await token_info(client, paths)
        usage = await _daily_usage(client, paths) if info else {}
    except NotAuthorized:
        return [fault(TOPIC, "HubSpot does not know the access token: copy it again from the app's Auth page.")]
    finally:
        await client.close()
    if info is None:
        return [warning(TOPIC, "HubSpot cannot be asked now; events wait until it can.")]
    return [*assess_token(info, settings.portal_ids), *assess_scopes(info, declarations), *assess_usage(usage)]


def assess_token(info: TokenInfo, portal_ids: tuple[int, ...]) -> Iterator[Finding]:
    """Judge whether the token is of a portal that we serve."""
    if portal_ids and info.hub_id not in portal_ids:
        yield fault(TOPIC, f"The token belongs to portal {info.hub_id}, which is not among PORTAL_IDS.")
    else:
        yield ok(TOPIC, f"The token belongs to portal {info.hub_id}.", portal_id=info.hub_id)


def assess_scopes(info: TokenInfo, declarations: Iterable[Declaration]) -> Iterator[Finding]:
    """Judge the token's scopes against what the handlers declare."""
    if not info.scopes:
        yield warning(TOPIC, "HubSpot does not tell this token's scopes, so they cannot be compared.")
        return
    found = compare_scopes(required_scopes(declarations), info.scopes)
    if found.missing:
        told = ", ".join(found.missing_texts)
        yield fault(TOPIC, f"The token lacks scopes that handlers need, so their events die: {told}.", missing=told)
    if found.excess:
        told = ", ".join(sorted(found.excess))
        yield warning(TOPIC, f"The token may do more than any handler needs; take away: {told}.", excess=told)
    if not found.missing and not found.excess:
        yield ok(TOPIC, "The token has the scopes that the handlers need, and no others.")


def assess_usage(usage: dict[str, Any]) -> Iterator[Finding]:
    """Judge what is left of the daily limit; `usage` is HubSpot's, empty where it does not tell."""
    most, used = usage.get("usageLimit"), usage.get("currentUsage")
    if not isinstance(most, int) or not isinstance(used, int) or most <= 0:
        yield warning(TOPIC, "HubSpot does not tell how many calls were made today.")
        return
    until = f", until {usage['resetsAt']}" if isinstance(usage.get("resetsAt"), str) else ""
    judge = warning if used > most * _DAILY_WARNING_SHARE else ok
    yield judge(TOPIC, f"{used:,} of {most:,} calls of the day are used{until}.", used=used, limit=most)


async def _daily_usage(client: HubSpotClient, paths: Paths) -> dict[str, Any]:
    try:
        body = (await client.call("GET", paths.daily_usage())).body
    except CRMError:
        return {}
    results = body.get("results")
    first = results[0] if isinstance(results, list) and results else {}
    return first if isinstance(first, dict) else {}
