"""HubSpot's webhook requests as bytes: distinct events, signed requests. Pure; a number determines an event.

Event `n` is of the kind `n % 10` and about object FIRST_OBJECT + n, so the range of sent numbers determines the
expected queue.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

SECRET: Final = "b71f4a52-0c6d-4e39-8a17-5d90c2e4f683"  # noqa: S105 - invented, for benchmark processes only
PUBLIC_URL: Final = "https://hooks.example.com"
PATH: Final = "/webhooks/hubspot"
PORTAL: Final = 50112233
FIRST_OBJECT: Final = 318_000_000_000
_SPREAD_MS: Final = 20_000  # events are delivered within seconds of their occurrence

_CHANGE: Final = (
    '"subscriptionType":"%s","attemptNumber":0,"changeSource":"CRM_UI",'
    '"sourceId":"userId:60718293","propertyName":"%s","propertyValue":"%s"}'
)
_CREATION: Final = (
    '"subscriptionType":"%s","attemptNumber":0,"changeFlag":"CREATED","changeSource":"INTEGRATION",'
    '"sourceId":"7788990"}'
)
_KINDS: Final = (
    _CREATION % "contact.creation",
    _CHANGE % ("contact.propertyChange", "email", "zoe.mueller@example.com"),
    _CHANGE % ("contact.propertyChange", "lastname", "Müller-Håkansson"),
    _CHANGE % ("contact.propertyChange", "hs_analytics_num_visits", "14"),  # not wanted
    _CREATION % "deal.creation",
    _CHANGE % ("deal.propertyChange", "dealstage", "closedwon"),
    _CHANGE % ("company.propertyChange", "domain", "https://www.example.com/about"),
    _CREATION % "company.creation",
    _CREATION % "line_item.creation",  # not wanted
    _CHANGE % ("contact.propertyChange", "phone", "+46 70 123 45 67"),
)
_UNWANTED_KINDS: Final = frozenset({3, 8})
_HEAD: Final = (
    '{"eventId":%d,"subscriptionId":441000%d,"portalId":50112233,"appId":7788990,"occurredAt":%d,"objectId":%d,'
)
_TEMPLATES: Final = tuple((_HEAD + kind.replace("%", "%%")).encode() for kind in _KINDS)
WANTED_TYPES: Final = frozenset(  # what a ceiling filters by: type, or type and property
    {
        "contact.creation", "deal.creation", "company.creation", "contact.propertyChange:email",
        "contact.propertyChange:lastname", "contact.propertyChange:phone", "deal.propertyChange:dealstage",
        "company.propertyChange:domain",
    }
)  # fmt: skip

_REQUEST: Final = (
    b"POST %b HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Type: application/json\r\nAccept: */*\r\n"
    b"User-Agent: HubSpot Connect 2.0 (http://dev.hubspot.com/) (namespace: webhooks-nio-http-client)\r\n"
    b"Accept-Encoding: gzip,deflate\r\nX-HubSpot-Timeout-Millis: 5000\r\nX-HubSpot-Signature-Version: v1\r\n"
    b"X-HubSpot-Signature: %b\r\nX-HubSpot-Request-Timestamp: %d\r\nX-HubSpot-Signature-v3: %b\r\n"
    b"Content-Length: %d\r\n\r\n"
)


def is_wanted(number: int) -> bool:
    """Return whether event `number` is on the allow-list; 8 of 10 are."""
    return number % 10 not in _UNWANTED_KINDS


def admitted_objects(first: int, last: int) -> set[int]:
    """Return the object ids in the queue after the events from `first` to `last - 1` were acknowledged."""
    return {FIRST_OBJECT + number for number in range(first, last) if is_wanted(number)}


def event(number: int, now_ms: int) -> bytes:
    """Return event `number` as JSON, about 280 bytes."""
    occurred_at = now_ms - number % _SPREAD_MS
    kind = number % 10
    return _TEMPLATES[kind] % (1_000_000 + number, kind, occurred_at, FIRST_OBJECT + number)


def body(first: int, batch: int, now_ms: int) -> bytes:
    """Return the body with the events from `first` to `first + batch - 1`."""
    return b"[" + b",".join([event(number, now_ms) for number in range(first, first + batch)]) + b"]"


def signature(body_: bytes, now_ms: int, *, target: str = PATH, method: str = "POST") -> bytes:
    """Return the v3 signature; `target` is the path and query as signed."""
    text = b"".join((method.encode(), PUBLIC_URL.encode(), target.encode(), body_, b"%d" % now_ms))
    return base64.b64encode(hmac.digest(SECRET.encode(), text, "sha256"))


def request(body_: bytes, now_ms: int, *, forged: bool = False) -> bytes:
    """Return a whole request with HubSpot's headers; a forged one has the signature of another body."""
    signed = b"[]" if forged else body_
    older = hashlib.sha256(SECRET.encode() + signed).hexdigest().encode()
    return _REQUEST % (PATH.encode(), older, now_ms, signature(signed, now_ms), len(body_)) + body_


def environment(port: int, redis_url: str, data_dir: str) -> Mapping[str, str]:
    """Return the settings of the web process for this traffic; all others keep their defaults."""
    return {
        "HUBSPOT_CLIENT_SECRET": SECRET,
        "PUBLIC_URL": PUBLIC_URL,
        "ALLOWED_EVENTS": ",".join(sorted(WANTED_TYPES)),
        "AUDIT_KEY": "a-key-for-benchmarks",
        "REDIS_URL": redis_url,
        "DATA_DIR": data_dir,
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
