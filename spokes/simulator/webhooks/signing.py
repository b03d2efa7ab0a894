"""How HubSpot signs what it sends, and how a forger would. Rule: pure; written from the protocol, shared with nobody.

Source: HubSpot's docs "Validating requests": v1 over secret and body, v2 over method and URI as well, v3 an HMAC with
a timestamp.
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


def v1(secret: str, body: bytes) -> str:
    """Lower-case hex SHA-256 of secret and body."""
    return hashlib.sha256(secret.encode() + body).hexdigest()


def v2(secret: str, method: str, uri: str, body: bytes) -> str:
    """Lower-case hex SHA-256 of secret, method, URI as called, and body."""
    return hashlib.sha256(f"{secret}{method}{uri}".encode() + body).hexdigest()


def v3(secret: str, method: str, uri: str, body: bytes, timestamp: str) -> str:
    """Base64 HMAC-SHA256 of method, URI with twelve escapes decoded, body, and timestamp as the header spells it."""
    decoded = _ENCODED.sub(lambda found: _DECODED_FOR_V3[found.group()], uri)
    message = f"{method}{decoded}".encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request departs from HubSpot's own; the defaults are HubSpot's.

    `secret` and `uri` replace what is signed with; `age_s` shifts the timestamp back (negative: into the future) and
    `timestamp` replaces its text; `tamper` changes the body after signing; `leave_out` drops headers by lower-case
    name and `headers` sets some; `hex_version` "v2" is what workflow webhooks carry.
    """

    secret: str | None = None
    uri: str | None = None
    age_s: float = 0.0
    timestamp: str | None = None
    tamper: bool = False
    leave_out: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    hex_version: str = "v1"


_V3_HEADERS: Final = frozenset({"x-hubspot-signature-v3", "x-hubspot-request-timestamp"})
_HEX_HEADERS: Final = frozenset({"x-hubspot-signature", "x-hubspot-signature-version"})

GENUINE: Final = Manner()
MANNERS: Final[Mapping[str, Manner]] = {
    "genuine": GENUINE,
    "forged": Manner(secret="a-secret-hubspot-never-gave-out"),  # noqa: S106 - a forger's guess
    "tampered": Manner(tamper=True),
    "stale": Manner(age_s=_STALE_S),
    "future": Manner(age_s=-_STALE_S),
    "unsigned": Manner(leave_out=_V3_HEADERS | _HEX_HEADERS),
    "v1_only": Manner(leave_out=_V3_HEADERS),
    "v2_only": Manner(leave_out=_V3_HEADERS, hex_version="v2"),
    "v3_only": Manner(leave_out=_HEX_HEADERS),
    "without_timestamp": Manner(leave_out=frozenset({"x-hubspot-request-timestamp"})),
    "wrong_uri": Manner(uri="https://elsewhere.example/webhooks/hubspot"),
}


class SignedRequest(NamedTuple):
    """What goes on the wire."""

    headers: dict[str, str]
    body: bytes


def sign(*, secret: str, uri: str, body: bytes, now_ms: int, manner: Manner = GENUINE) -> SignedRequest:
    """Dress a POST of `body` to `uri` in the headers HubSpot sends, or in those of `manner`."""
    secret, uri = manner.secret or secret, manner.uri or uri
    timestamp = manner.timestamp if manner.timestamp is not None else str(round(now_ms - manner.age_s * 1000))
    hex_value = v1(secret, body) if manner.hex_version == "v1" else v2(secret, "POST", uri, body)
    headers = {
        "Content-Type": "application/json",
        "Accept": "*/*",
        "User-Agent": "HubSpot Connect 2.0 (http://dev.hubspot.com/) (namespace: webhooks-nio-http-client)"
        " - WebhooksExecutorDaemon-executor",
        "X-HubSpot-Timeout-Millis": "10000",
        "X-HubSpot-Signature": hex_value,
        "X-HubSpot-Signature-Version": manner.hex_version,
        "X-HubSpot-Signature-v3": v3(secret, "POST", uri, body, timestamp),
        "X-HubSpot-Request-Timestamp": timestamp,
    }
    kept = {name: value for name, value in headers.items() if name.lower() not in manner.leave_out}
    return SignedRequest({**kept, **manner.headers}, body + b" " if manner.tamper else body)
