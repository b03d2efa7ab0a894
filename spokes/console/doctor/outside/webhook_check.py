"""Check that ALERT_WEBHOOK_URL answers. HEAD sends no message, so only an address that cannot work is a fault."""

from typing import Final

import aiohttp

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.settings import Settings

TOPIC: Final = "alert webhook"
_TIMEOUT_S: Final = 5.0
_REFUSALS: Final = frozenset({401, 403, 404})
_REMEDY: Final = "so alerts reach nobody. Correct ALERT_WEBHOOK_URL, then run `spokes alerts --test`."


async def check_alert_webhook(settings: Settings) -> list[Finding]:
    """Ask the webhook's server; return no finding if ALERT_WEBHOOK_URL is not set."""
    url = settings.alert_webhook_url.get_secret_value()
    if not url:
        return []
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.head(url, allow_redirects=False) as response,
        ):
            return [assess_status(response.status)]
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        return [fault(TOPIC, f"ALERT_WEBHOOK_URL cannot be reached ({type(error).__name__}), {_REMEDY}")]


def assess_status(status: int) -> Finding:
    """Assess the response to HEAD: servers of webhooks often refuse the method, which says nothing."""
    if status == 410:  # noqa: PLR2004 - HTTP's own number: the webhook was deleted
        return fault(TOPIC, f"ALERT_WEBHOOK_URL answers 410: the webhook was deleted, {_REMEDY}", status=status)
    if status in _REFUSALS or (status >= 500 and status != 501):  # noqa: PLR2004 - HTTP's own numbers: failures; method unknown
        return warning(
            TOPIC,
            f"ALERT_WEBHOOK_URL answers {status}: alerts may reach nobody. `spokes alerts --test` sends one.",
            status=status,
        )
    return ok(TOPIC, "The server of ALERT_WEBHOOK_URL answers.", status=status)
