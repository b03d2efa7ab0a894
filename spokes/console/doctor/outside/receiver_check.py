"""Check the web process from outside: send a signed request without events to PUBLIC_URL.

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

TOPIC: Final = "receiver"
_TIMEOUT_S: Final = 5.0  # HubSpot's own time-out
_BODY: Final = b"[]"
# What each status means for a correctly signed request, and what to do.
_EXPLANATIONS: Final = {
    401: "The web process refuses the signature: HUBSPOT_CLIENT_SECRET or PUBLIC_URL differ from its values, or "
    "a proxy changes the request. `spokes explain-signature` finds the difference.",
    403: "The web process refuses this machine's address, or plain http. Check ALLOWED_ADDRESSES and TRUSTED_PROXIES.",
    404: "No Spokes web process answers at this address. Check PUBLIC_URL.",
    413: "A proxy refuses the size of the request. Raise its limit to MAX_BODY_BYTES.",
    429: "The web process refuses this address for a minute, after too many wrong signatures. Check "
    "HUBSPOT_CLIENT_SECRET and TRUSTED_PROXIES, then try again.",
    503: "The web process cannot accept events, most likely because it does not reach its Redis. Check its REDIS_URL.",
}


_OF_CLASS: Final = {  # of any other status, by its first digit
    2: "Another program answers there, not a Spokes web process. Check PUBLIC_URL.",
    3: "The address redirects, and HubSpot follows no redirect. Set PUBLIC_URL to the address to which it leads.",
    4: "Another program or a proxy refuses the request. Check PUBLIC_URL and the proxy.",
    5: "The proxy does not reach the web process. Check that it runs, and the proxy's log.",
}


def explain_status(status: int) -> str:
    """Return what a status other than 202 means for a correctly signed request, and what to do."""
    return _EXPLANATIONS.get(status) or _OF_CLASS.get(status // 100, "Check PUBLIC_URL.")


async def check_receiver(settings: Settings) -> list[Finding]:
    """Send a signed request as HubSpot does."""
    if not settings.client_secrets:
        return [
            fault(
                TOPIC,
                "HUBSPOT_CLIENT_SECRET is not set: the web process does not start. Copy it from the app's Auth page.",
            )
        ]
    if not settings.public_url:
        return [
            fault(
                TOPIC,
                "PUBLIC_URL is not set: no signature can be verified. Set it to the https address that HubSpot calls.",
            )
        ]
    url = settings.public_url + RECEIVER_PATH
    return [
        *assess_public_url(settings.public_url),
        *assess_proxies(settings.public_url, settings.trusted_proxies),
        await _send_probe(settings, url),
    ]


def assess_public_url(public_url: str) -> Iterator[Finding]:
    """Check that HubSpot can call the address."""
    parts = urlsplit(public_url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        yield fault(
            TOPIC,
            f"PUBLIC_URL is {public_url}, but HubSpot calls https only: no signature will match. Set PUBLIC_URL to "
            "the https address.",
        )


def assess_proxies(public_url: str, trusted_proxies: int) -> Iterator[Finding]:
    """Check that the web process knows of the proxy that decrypts https: it does not do so itself."""
    if urlsplit(public_url).scheme == "https" and not trusted_proxies:
        yield warning(
            TOPIC,
            "PUBLIC_URL is https, so a proxy stands before the web process, but TRUSTED_PROXIES is 0: all senders and "
            "visitors count as one address, the proxy's. Set TRUSTED_PROXIES to the number of your proxies; on Heroku "
            "it is 1.",
        )


async def _send_probe(settings: Settings, url: str) -> Finding:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    headers = sign_request(settings.client_secrets[0], url, _BODY, clock.now_ms())
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=_BODY, headers=headers, allow_redirects=False) as response,
        ):
            return assess_status(url, response.status)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return warning(
            TOPIC,
            f"{url} cannot be reached from this machine ({type(error).__name__}). HubSpot may still reach it; if no "
            "events arrive, check DNS, TLS and the proxy.",
        )


def assess_status(url: str, status: int) -> Finding:
    """Assess the response to a correctly signed request."""
    if status == 202:  # noqa: PLR2004 - HTTP's own number
        return ok(TOPIC, f"{url} accepts a request signed as HubSpot signs it.")
    return fault(TOPIC, f"{url} answers {status}. {explain_status(status)}", status=status)
