"""Find the variation of a captured request that its signature matches. Rule: pure; the fewest departures come first."""

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
_MAX_URL_DIFFERENCES: Final = 4  # of the address and the secret, which a proxy changes together
_MAX_DIFFERENCES: Final = 2  # of everything
_VERSIONS: Final = ("v1", "v2", "v3")


def find_match(request: CapturedRequest, secrets: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the version that matches, and in what the request departs from the rules; None when nothing does."""
    claimed, value = presented_signature(request)
    if not value:
        return None
    spellings = _decode_signature(value)
    versions = sorted(_VERSIONS, key=lambda version: version != claimed)
    for chosen in _combinations(variations(request, secrets)):
        elsewhere = any(chosen[name].difference for name in _URL_PARTS)
        for version in versions:
            if version == "v1" and elsewhere:  # it says nothing of where, so that was tried before
                continue
            digest = _digest(version, chosen)
            for spelling, departure in spellings:
                if hmac.compare_digest(digest, spelling):
                    departures = [way.difference for way in chosen.values()]
                    if version != claimed:
                        departures.append(f"the header of a {claimed} signature holds one of {version}")
                    elif departure and departure != _EXPECTED_ENCODING[version]:
                        departures.append(departure)
                    return version, [one for one in departures if one]
    return None


def missing_header(request: CapturedRequest) -> str:
    """Return the header without which there is nothing to match; empty when all are there."""
    claimed, value = presented_signature(request)
    if not value:
        return SIGNATURE_V3_HEADER
    return TIMESTAMP_HEADER if claimed == "v3" and not request.header(TIMESTAMP_HEADER) else ""


def presented_signature(request: CapturedRequest) -> tuple[str, str]:
    """Return the version that the request claims and the value it presents; v3 is what counts where it is there."""
    if value := request.header(SIGNATURE_V3_HEADER):
        return "v3", value
    version = request.header(SIGNATURE_VERSION_HEADER)
    return version if version in _VERSIONS else "v1", request.header(SIGNATURE_HEADER)


_HEX, _BASE64 = "the signature is written in hex", "the signature is written in base64"
_EXPECTED_ENCODING: Final = {"v1": _HEX, "v2": _HEX, "v3": _BASE64}


def _decode_signature(value: str) -> list[tuple[bytes, str]]:
    """The digests that a value may stand for, each with how it would be spelled."""
    bare = value.strip("\"'").rpartition("sha256=")[2]
    around = "something stands around the signature" if bare != value else ""
    ways = (
        (_HEX, bytes.fromhex, bare),
        (_BASE64, lambda text: base64.b64decode(text, validate=True), bare),
        ("the signature is written in base64 for URLs", base64.urlsafe_b64decode, bare),
        ("the signature's padding is missing", base64.b64decode, f"{bare}{'=' * (-len(bare) % 4)}"),
    )
    found = []
    for how, read, text in ways:
        try:
            found.append((read(text), around or how))
        except (binascii.Error, ValueError):
            continue
    return found


def _digest(version: str, chosen: Mapping[str, Variation]) -> bytes:
    text = {name: way.value if isinstance(way.value, bytes) else way.value.encode() for name, way in chosen.items()}
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


def _combinations(found: VariationsByPart) -> Iterator[dict[str, Variation]]:
    """Every choice of ways with at most a few departures, those with the fewest first."""
    right = {name: ways[0] for name, ways in found.items()}
    for count in range(_MAX_URL_DIFFERENCES + 1):
        varied = found if count <= _MAX_DIFFERENCES else [name for name in found if name in _URL_PARTS | {"secret"}]
        for names in itertools.combinations(varied, count):
            for ways in itertools.product(*(found[name][1:] for name in names)):
                yield {**right, **dict(zip(names, ways, strict=True))}
