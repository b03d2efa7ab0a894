"""The simulator's signatures against those that HubSpot and its official clients compute."""

import json
from typing import Any

import pytest

from spokes.simulator.webhooks import signing
from tests.support.deployment import ROOT

NOW_MS = 1_795_442_400_000
VECTORS: list[dict[str, Any]] = [
    vector for vector in json.loads((ROOT / "tests" / "hubspot-vectors.json").read_text())["vectors"] if vector["valid"]
]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_every_known_signature_is_reproduced(vector: dict[str, Any]) -> None:
    secret, method, uri = vector["client_secret"], vector["method"], vector["uri"]
    body = (vector["body"] or "").encode()
    match vector["version"]:
        case "v1":
            signature = signing.signature_v1(secret, body)
        case "v2":
            signature = signing.signature_v2(secret, method, uri, body)
        case _:
            signature = signing.signature_v3(secret, method, uri, body, vector["timestamp_header"])
    assert signature == vector["expected_signature"]


def signed(variant: str) -> signing.SignedRequest:
    return signing.sign(
        secret="s",
        uri="https://hooks.example.com/in",
        body=b"[]",
        now_ms=NOW_MS,
        variant=signing.SIGNING_VARIANTS[variant],
    )


def test_genuine_request_has_both_signatures_and_hubspots_headers() -> None:
    headers = signed("genuine").headers
    assert headers["X-HubSpot-Signature"] == signing.signature_v1("s", b"[]")
    assert headers["X-HubSpot-Signature-Version"] == "v1"
    assert headers["X-HubSpot-Request-Timestamp"] == str(NOW_MS)
    assert headers["X-HubSpot-Signature-v3"] == signing.signature_v3(
        "s", "POST", "https://hooks.example.com/in", b"[]", str(NOW_MS)
    )
    assert headers["X-HubSpot-Timeout-Millis"] == "10000"
    assert headers["User-Agent"].startswith("HubSpot Connect 2.0")


def test_forged_request_differs_only_in_its_signatures() -> None:
    genuine, forged = signed("genuine"), signed("forged")
    changed = {name for name, value in genuine.headers.items() if forged.headers[name] != value}
    assert changed == {"X-HubSpot-Signature", "X-HubSpot-Signature-v3"}
    assert forged.body == genuine.body


def test_tampered_request_keeps_its_signatures() -> None:
    genuine, tampered = signed("genuine"), signed("tampered")
    assert tampered.headers == genuine.headers
    assert tampered.body != genuine.body


@pytest.mark.parametrize(("variant", "shift_ms"), [("stale", -360_000), ("future", 360_000)])
def test_stale_or_future_request_is_signed_with_its_timestamp(variant: str, shift_ms: int) -> None:
    headers = signed(variant).headers
    timestamp = str(NOW_MS + shift_ms)
    assert headers["X-HubSpot-Request-Timestamp"] == timestamp
    assert headers["X-HubSpot-Signature-v3"] == signing.signature_v3(
        "s", "POST", "https://hooks.example.com/in", b"[]", timestamp
    )


def test_unsigned_request_has_no_signature_header() -> None:
    assert not [name for name in signed("unsigned").headers if "Signature" in name or "Timestamp" in name]
