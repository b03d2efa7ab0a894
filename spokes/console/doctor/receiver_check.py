"""Does HubSpot get in: a request signed as HubSpot signs, sent to PUBLIC_URL. Rule: it carries no event.

Source: HubSpot's "Validating Requests" (v3).
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core import clock
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.signature import sign_request

TOPIC: Final = "door"
_TIMEOUT_S: Final = 5.0  # HubSpot itself waits no longer
_BODY: Final = b"[]"
_STATUS_EXPLANATIONS: Final = {
    401: "refuses our signature: PUBLIC_URL or HUBSPOT_CLIENT_SECRET differ from the web process's, or a proxy "
    "changes what it passes on; see `spokes explain-signature`",
    403: "refuses this address or plain http: see ALLOWED_ADDRESSES and TRUSTED_PROXIES",
    404: "is not Spokes: nothing answers under /webhooks/hubspot there",
    503: "cannot reach its Redis",
}


async def check_receiver(settings: Settings) -> list[Finding]:
    """Knock as HubSpot does."""
    if not settings.client_secrets:
        return [fault(TOPIC, "HUBSPOT_CLIENT_SECRET is not set: the web process does not start.")]
    if not settings.public_url:
        return [fault(TOPIC, "PUBLIC_URL is not set: no signature can be checked.")]
    url = settings.public_url + RECEIVER_PATH
    return [*assess_public_url(settings.public_url), await _send_probe(settings, url)]


def assess_public_url(public_url: str) -> Iterator[Finding]:
    """Judge the address that HubSpot is to call."""
    parts = urlsplit(public_url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        yield fault(TOPIC, f"PUBLIC_URL is {public_url}, and HubSpot calls https only: no signature will match.")


async def _send_probe(settings: Settings, url: str) -> Finding:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                url, data=_BODY, headers=sign_request(settings.client_secrets[0], url, _BODY, clock.now_ms()),
                allow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            return assess_status(url, answer.status)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        told = f"{url} cannot be reached from here ({type(error).__name__}); HubSpot may see it all the same."
        return warning(TOPIC, told)


def assess_status(url: str, status: int) -> Finding:
    """Judge how the door answered a request signed as HubSpot signs."""
    if status == 202:  # noqa: PLR2004 - HTTP's own number
        return ok(TOPIC, f"{url} takes what HubSpot signs.")
    meaning = _STATUS_EXPLANATIONS.get(status, "does not take what HubSpot signs")
    return fault(TOPIC, f"{url} answers {status}: it {meaning}.", status=status)
