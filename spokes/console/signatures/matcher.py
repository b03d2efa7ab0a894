"""Find the variation of a captured request that its signature matches, trying those with the fewest differences first.

Pure: no I/O, no clock.
"""

import base64
import binascii
import hashlib
import hmac
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from spokes.console.signatures.captured_request import CapturedRequest
from spokes.console.signatures.variations import Variation, VariationsByPart, variations
from spokes.core.signature import (
    SIGNATURE_HEADER,
    SIGNATURE_V3_HEADER,
    SIGNATURE_VERSION_HEADER,
    TIMESTAMP_HEADER,
    decode_uri,
)

_URL_PARTS: Final = frozenset({"scheme", "host", "port", "path", "query"})
_MAX_URL_DIFFERENCES: Final = 4  # of URL and secret, several of which a proxy changes at once
_MAX_DIFFERENCES: Final = 2  # of all parts
_VERSIONS: Final = ("v1", "v2", "v3")
_HEX, _BASE64 = "the signature is written in hex", "the signature is written in base64"
_EXPECTED_ENCODING: Final = {"v1": _HEX, "v2": _HEX, "v3": _BASE64}


def find_match(request: CapturedRequest, secrets: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the version of the signature that matches and the differences it needs; None if nothing matches."""
    claimed, value = presented_signature(request)
    if not value:
        return None
    candidates = _decode_signature(value)
    versions = sorted(_VERSIONS, key=lambda version: version != claimed)
    for chosen in _combinations(variations(request, secrets)):
        url_differs = any(chosen[name].difference for name in _URL_PARTS)
        for version in versions:
            if version == "v1" and url_differs:  # v1 does not sign the URL, so this combination was tried before
                continue
            digest = _digest(version, chosen)
            for candidate, encoding in candidates:
                if hmac.compare_digest(digest, candidate):
                    differences = [variation.difference for variation in chosen.values()]
                    if version != claimed:
                        differences.append(f"the header of a {claimed} signature holds one of {version}")
                    elif encoding != _EXPECTED_ENCODING[version]:
                        differences.append(encoding)
                    return version, [difference for difference in differences if difference]
    return None


def missing_header(request: CapturedRequest) -> str:
    """Return the name of a required header that is missing or empty; empty if all are present."""
    claimed, value = presented_signature(request)
    if not value:
        return SIGNATURE_V3_HEADER
    return TIMESTAMP_HEADER if claimed == "v3" and not request.header(TIMESTAMP_HEADER) else ""


def presented_signature(request: CapturedRequest) -> tuple[str, str]:
    """Return the version that the request claims and its signature; a v3 signature takes precedence."""
    if value := request.header(SIGNATURE_V3_HEADER):
        return "v3", value
    version = request.header(SIGNATURE_VERSION_HEADER)
    return version if version in _VERSIONS else "v1", request.header(SIGNATURE_HEADER)


def _decode_signature(value: str) -> list[tuple[bytes, str]]:
    """Return each digest that the text can encode, with a description of the encoding."""
    bare = value.strip("\"'").rpartition("sha256=")[2]
    wrapped = "the signature has a prefix or quotes" if bare != value else ""
    decoders = (
        (_HEX, bytes.fromhex, bare),
        (_BASE64, lambda text: base64.b64decode(text, validate=True), bare),
        ("the signature is written in base64 for URLs", base64.urlsafe_b64decode, bare),
        ("the signature's padding is missing", base64.b64decode, f"{bare}{'=' * (-len(bare) % 4)}"),
    )
    digests = []
    for encoding, decode, text in decoders:
        try:
            digests.append((decode(text), wrapped or encoding))
        except (binascii.Error, ValueError):
            continue
    return digests


def _digest(version: str, chosen: Mapping[str, Variation]) -> bytes:
    text = {
        name: variation.value if isinstance(variation.value, bytes) else variation.value.encode()
        for name, variation in chosen.items()
    }
    uri = b"".join(text[name] for name in ("scheme", "host", "port", "path", "query"))
    if version == "v1":
        return hashlib.sha256(text["secret"] + text["body"]).digest()
    if version == "v2":
        return hashlib.sha256(text["secret"] + text["method"] + uri + text["body"]).digest()
    if chosen["decoding"].value == "twelve":
        uri = decode_uri(uri.decode()).encode()
    elif chosen["decoding"].value == "all":
        uri = unquote(uri.decode()).encode()
    return hmac.digest(text["secret"], text["method"] + uri + text["body"] + text["timestamp"], "sha256")


def _combinations(by_part: VariationsByPart) -> Iterator[dict[str, Variation]]:
    """Yield one variation per part in every combination with few differences, fewest first."""
    expected = {name: candidates[0] for name, candidates in by_part.items()}
    for count in range(_MAX_URL_DIFFERENCES + 1):
        varied = by_part if count <= _MAX_DIFFERENCES else [name for name in by_part if name in _URL_PARTS | {"secret"}]
        for names in itertools.combinations(varied, count):
            for differing in itertools.product(*(by_part[name][1:] for name in names)):
                yield {**expected, **dict(zip(names, differing, strict=True))}
