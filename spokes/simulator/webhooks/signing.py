"""HubSpot's request signatures, and forged ones. Pure, and written independently of `spokes.core.signature`.

Source: HubSpot's docs "Validating requests": v1 is a hash of secret and body, v2 one of secret, method, URI and
body, v3 an HMAC of method, URI, body and timestamp.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_DECODED_FOR_V3: Final[Mapping[str, str]] = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$",
    "%27": "'", "%28": "(", "%29": ")", "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip
_ENCODED: Final = re.compile("|".join(_DECODED_FOR_V3))

_STALE_S: Final = 6 * 60.0  # HubSpot's tolerance is five minutes


def signature_v1(secret: str, body: bytes) -> str:
    """Return the lower-case hex SHA-256 of secret and body."""
    return hashlib.sha256(secret.encode() + body).hexdigest()


def signature_v2(secret: str, method: str, uri: str, body: bytes) -> str:
    """Return the lower-case hex SHA-256 of secret, method, URI as called, and body."""
    return hashlib.sha256(f"{secret}{method}{uri}".encode() + body).hexdigest()


def signature_v3(secret: str, method: str, uri: str, body: bytes, timestamp: str) -> str:
    """Return the base64 HMAC-SHA256 of method, URI with twelve escapes decoded, body, and the timestamp header."""
    decoded = _ENCODED.sub(lambda match: _DECODED_FOR_V3[match.group()], uri)
    message = f"{method}{decoded}".encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


@dataclass(frozen=True, slots=True)
class SigningVariant:
    """How a request differs from one that HubSpot sends; with the defaults it does not.

    `secret` and `uri` replace the values used for signing; `age_s` shifts the timestamp back (negative: into the
    future) and `timestamp` replaces its text; `tamper` changes the body after signing; `omitted_headers` removes
    headers by lower-case name and `extra_headers` sets some; `hex_version` "v2" is the version of workflow webhooks.
    """

    secret: str | None = None
    uri: str | None = None
    age_s: float = 0.0
    timestamp: str | None = None
    tamper: bool = False
    omitted_headers: frozenset[str] = frozenset()
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    hex_version: str = "v1"


_V3_HEADERS: Final = frozenset({"x-hubspot-signature-v3", "x-hubspot-request-timestamp"})
_HEX_HEADERS: Final = frozenset({"x-hubspot-signature", "x-hubspot-signature-version"})

GENUINE: Final = SigningVariant()
SIGNING_VARIANTS: Final[Mapping[str, SigningVariant]] = {
    "genuine": GENUINE,
    "forged": SigningVariant(secret="a-secret-hubspot-never-gave-out"),  # noqa: S106 - a wrong secret for forged requests
    "tampered": SigningVariant(tamper=True),
    "stale": SigningVariant(age_s=_STALE_S),
    "future": SigningVariant(age_s=-_STALE_S),
    "unsigned": SigningVariant(omitted_headers=_V3_HEADERS | _HEX_HEADERS),
    "v1_only": SigningVariant(omitted_headers=_V3_HEADERS),
    "v2_only": SigningVariant(omitted_headers=_V3_HEADERS, hex_version="v2"),
    "v3_only": SigningVariant(omitted_headers=_HEX_HEADERS),
    "without_timestamp": SigningVariant(omitted_headers=frozenset({"x-hubspot-request-timestamp"})),
    "wrong_uri": SigningVariant(uri="https://elsewhere.example/webhooks/hubspot"),
}


class SignedRequest(NamedTuple):
    """Headers and body of a signed request."""

    headers: dict[str, str]
    body: bytes


def sign(*, secret: str, uri: str, body: bytes, now_ms: int, variant: SigningVariant = GENUINE) -> SignedRequest:
    """Return a POST of `body` to `uri` with HubSpot's headers, changed according to `variant`."""
    secret, uri = variant.secret or secret, variant.uri or uri
    timestamp = variant.timestamp if variant.timestamp is not None else str(round(now_ms - variant.age_s * 1000))
    hex_value = signature_v1(secret, body) if variant.hex_version == "v1" else signature_v2(secret, "POST", uri, body)
    headers = {
        "Content-Type": "application/json",
        "Accept": "*/*",
        "User-Agent": "HubSpot Connect 2.0 (http://dev.hubspot.com/) (namespace: webhooks-nio-http-client)"
        " - WebhooksExecutorDaemon-executor",
        "X-HubSpot-Timeout-Millis": "10000",
        "X-HubSpot-Signature": hex_value,
        "X-HubSpot-Signature-Version": variant.hex_version,
        "X-HubSpot-Signature-v3": signature_v3(secret, "POST", uri, body, timestamp),
        "X-HubSpot-Request-Timestamp": timestamp,
    }
    sent = {name: value for name, value in headers.items() if name.lower() not in variant.omitted_headers}
    return SignedRequest({**sent, **variant.extra_headers}, body + b" " if variant.tamper else body)
