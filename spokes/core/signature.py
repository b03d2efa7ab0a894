"""Verify the signatures of HubSpot's webhook requests, and sign requests of our own to test a deployment.

Pure: clock and secrets are arguments. Source: HubSpot's "Validating Requests". The body is hashed as received, the URI
as called.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal

SIGNATURE_HEADER: Final = "X-HubSpot-Signature"
SIGNATURE_VERSION_HEADER: Final = "X-HubSpot-Signature-Version"
SIGNATURE_V3_HEADER: Final = "X-HubSpot-Signature-v3"
TIMESTAMP_HEADER: Final = "X-HubSpot-Request-Timestamp"

_V3_LENGTH: Final = 44  # base64 of 32 bytes
_HEX_LENGTH: Final = 64
_BLOCK_BYTES: Final = 64  # of SHA-256
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))
_MAX_PREPARED_KEYS: Final = 16  # a deployment has one client secret, two while it is rotated
_MAX_TIMESTAMP_DIGITS: Final = 16  # digits; epoch milliseconds have 13 until the year 2286

# The table of HubSpot's page, in upper case only. Every other sequence stays encoded; decoding makes one pass.
_DECODED_SEQUENCES: Final = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$",
    "%27": "'", "%28": "(", "%29": ")", "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip
_ENCODED_SEQUENCE: Final = re.compile("|".join(_DECODED_SEQUENCES))


class PresentedSignature(NamedTuple):
    """A signature in the form of its version, with a recent timestamp; whether it matches is not known yet."""

    version: str
    value: bytes
    timestamp: bytes  # as it was hashed; empty for v1 and v2


def verify(
    *,
    method: str,
    uri: str,
    body: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[str],
    now_ms: int,
    versions: Collection[str] = ("v3",),
    max_age_s: int = 300,
    max_skew_s: int = 300,
) -> str:
    """Return the version of the signature that matched; see `read_signature` and `match_signature`."""
    presented = read_signature(headers, now_ms=now_ms, versions=versions, max_age_s=max_age_s, max_skew_s=max_skew_s)
    return match_signature(presented, method=method, uri=uri, body=body, secrets=secrets)


def read_signature(
    headers: Mapping[str, str],
    *,
    now_ms: int,
    versions: Collection[str] = ("v3",),
    max_age_s: int = 300,
    max_skew_s: int = 300,
) -> PresentedSignature:
    """Return the signature that a request presents. It needs no body, so most forged requests end here.

    A request with a v3 header is verified by v3 only, so that an attacker cannot fall back to a weaker version.

    Args:
        headers: names in any case; repeated headers of a multi-dict are detected.
        now_ms: epoch milliseconds.
        versions: the accepted ones of `v1`, `v2`, `v3`.
        max_age_s: the maximum age of a v3 request in seconds, inclusive.
        max_skew_s: how far ahead of `now_ms` a v3 timestamp may be, in seconds, inclusive.

    Raises:
        RejectedRequest: the signature cannot be valid. No other exception is raised, whatever the input.
    """
    try:
        presented = _single_header(headers, SIGNATURE_V3_HEADER)
        if presented is not None:
            if "v3" not in versions:
                _refuse(Refusal.SIGNATURE_VERSION_NOT_ALLOWED)
            timestamp = _check_timestamp(_single_header(headers, TIMESTAMP_HEADER), now_ms, max_age_s, max_skew_s)
            return PresentedSignature("v3", _check_form(presented, _V3_LENGTH), timestamp)
        version, presented = _legacy_signature(headers, versions)
        return PresentedSignature(version, _check_form(presented, _HEX_LENGTH), b"")
    except RejectedRequest:
        raise
    except Exception:  # noqa: BLE001 - a forged request must be refused, whatever exception it causes in our code
        raise RejectedRequest(Refusal.REQUEST_UNREADABLE) from None


def match_signature(
    presented: PresentedSignature, *, method: str, uri: str, body: bytes, secrets: Sequence[str]
) -> str:
    """Return the version of the signature if it is that of the request.

    Args:
        presented: the signature to check.
        method: in upper case, as on the wire.
        uri: the absolute public URI as on the wire, before percent-decoding.
        body: the raw bytes.
        secrets: the live client secrets; blank ones are skipped.

    Raises:
        RejectedRequest: the signature is not valid. No other exception is raised, whatever the input.
    """
    try:
        keys = _live_keys(*secrets)
        if not keys:
            _refuse(Refusal.SECRET_MISSING)
        if presented.version == "v3":
            text = b"".join((method.encode(), decode_uri(uri).encode(), body, presented.timestamp))
            expected = [binascii.b2a_base64(_hmac_sha256(key, text), newline=False) for key in keys]
        else:
            called = method.encode() + uri.encode() if presented.version == "v2" else b""
            expected = [hashlib.sha256(key + called + body).hexdigest().encode() for key in keys]
        # Compare with every secret, so that the time does not reveal which one matched.
        matches = [hmac.compare_digest(presented.value, candidate) for candidate in expected]
    except RejectedRequest:
        raise
    except Exception:  # noqa: BLE001 - as above
        raise RejectedRequest(Refusal.REQUEST_UNREADABLE) from None
    if not any(matches):
        _refuse(Refusal.SIGNATURE_MISMATCH)
    return presented.version


@lru_cache(maxsize=_MAX_PREPARED_KEYS)
def _live_keys(*secrets: str) -> tuple[bytes, ...]:
    """Return the secrets that are not blank, as bytes."""
    return tuple(secret.encode() for secret in secrets if secret and secret.strip())


def _hmac_sha256(key: bytes, text: bytes) -> bytes:
    """Return what `hmac.digest` returns. The two blocks of the key are hashed once, not for each request."""
    prepared_inner, prepared_outer = _key_blocks(key)
    inner, outer = prepared_inner.copy(), prepared_outer.copy()
    inner.update(text)
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=_MAX_PREPARED_KEYS)
def _key_blocks(key: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """Return the inner and outer hash of RFC 2104 after the key's block."""
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(block.translate(_INNER_PAD)), hashlib.sha256(block.translate(_OUTER_PAD))


def decode_uri(uri: str) -> str:
    """Return `uri` with HubSpot's twelve percent-sequences decoded once: the form that v3 hashes."""
    return _ENCODED_SEQUENCE.sub(lambda match: _DECODED_SEQUENCES[match[0]], uri) if "%" in uri else uri


def _single_header(headers: Mapping[str, str], name: str) -> str | None:
    """Return the value of a header, or None. A repeated header is refused, because it is unclear which value counts."""
    getall = getattr(headers, "getall", None)
    if getall is not None:
        values = list(getall(name, ()))
    else:
        values = [value for key, value in headers.items() if key.lower() == name.lower()]
    if len(values) > 1:
        _refuse(Refusal.SIGNATURE_MALFORMED)
    return values[0] if values else None


def parse_timestamp(text: str) -> int | None:
    """Return the epoch ms that a timestamp header names, None if it is no such number."""
    # isdecimal() alone would accept digits of other scripts, which int() reads.
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_TIMESTAMP_DIGITS
    return int(text) if is_number else None


def _check_timestamp(text: str | None, now_ms: int, max_age_s: int, max_skew_s: int) -> bytes:
    """Return the timestamp as it was hashed, if it is within the accepted window around `now_ms`."""
    if text is None:
        _refuse(Refusal.TIMESTAMP_MISSING)
    signed_ms = parse_timestamp(text)
    if signed_ms is None:
        _refuse(Refusal.TIMESTAMP_MALFORMED)
    age_ms = now_ms - signed_ms
    if age_ms > max_age_s * 1000:
        _refuse(Refusal.TIMESTAMP_STALE)
    if age_ms < -max_skew_s * 1000:
        _refuse(Refusal.TIMESTAMP_IN_FUTURE)
    return text.encode()


def _legacy_signature(headers: Mapping[str, str], versions: Collection[str]) -> tuple[str, str]:
    """Return version and value of a v1 or v2 signature, if that version is accepted."""
    presented = _single_header(headers, SIGNATURE_HEADER)
    if presented is None or not {"v1", "v2"} & set(versions):
        _refuse(Refusal.SIGNATURE_MISSING)
    version = _single_header(headers, SIGNATURE_VERSION_HEADER)
    if version not in {"v1", "v2"}:
        _refuse(Refusal.SIGNATURE_VERSION_UNKNOWN)
    if version not in versions:
        _refuse(Refusal.SIGNATURE_VERSION_NOT_ALLOWED)
    return version, presented


def _check_form(presented: str, length: int) -> bytes:
    """Return a signature as bytes, of which `compare_digest` accepts any; it raises on text that is not ASCII."""
    if len(presented) != length or not presented.isascii():
        _refuse(Refusal.SIGNATURE_MALFORMED)
    return presented.encode()


def _refuse(reason: Refusal) -> NoReturn:
    raise RejectedRequest(reason)


def sign_request(secret: str, url: str, body: bytes, now_ms: int) -> dict[str, str]:
    """Return the headers of a signed v3 POST request of our own; `url` must not need decoding."""
    digest = hmac.digest(secret.encode(), b"POST" + url.encode() + body + str(now_ms).encode(), "sha256")
    signature = base64.b64encode(digest).decode()
    return {"Content-Type": "application/json", SIGNATURE_V3_HEADER: signature, TIMESTAMP_HEADER: str(now_ms)}
