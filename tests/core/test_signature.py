"""spokes.core.signature: HubSpot's vectors, an independent reference, and arbitrary input."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.signature import sign_request, verify
from tests.support.deployment import ROOT

VECTORS = json.loads((ROOT / "tests" / "hubspot-vectors.json").read_text())["vectors"]
NOW_MS = 1795442400850
URI = "https://hooks.example.com/hubspot/webhook"
SECRET = "3f6d0c2e-8b1a-4e57-9c34-7a5e2d10b9f8"


def v3(
    body: bytes = b"[]", *, uri: str = URI, method: str = "POST", at: str = str(NOW_MS), secret: str = SECRET
) -> str:
    """Return the v3 signature as HubSpot's docs define it, for a URI that needs no decoding."""
    return base64.b64encode(
        hmac.digest(secret.encode(), method.encode() + uri.encode() + body + at.encode(), "sha256")
    ).decode()


def refusal(**changes: object) -> Refusal:
    """Return the refusal of a request that is valid except for `changes`."""
    headers = {"X-HubSpot-Signature-v3": v3(), "X-HubSpot-Request-Timestamp": str(NOW_MS)}
    request: dict[str, object] = {
        "method": "POST", "uri": URI, "body": b"[]", "headers": headers, "secrets": [SECRET], "now_ms": NOW_MS,
    }  # fmt: skip
    with pytest.raises(RejectedRequest) as refused:
        verify(**{**request, **changes})  # type: ignore[arg-type]  # wrong types are the point of some tests
    return refused.value.reason


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["valid"]], ids=lambda v: v["name"])
def test_valid_vector_is_accepted(vector: dict[str, str]) -> None:
    version = verify(
        method=vector["method"],
        uri=vector["uri"],
        body=vector["body"].encode(),
        headers=vector["headers"],  # type: ignore[arg-type]  # JSON
        secrets=[vector["client_secret"]],
        now_ms=int(vector["now_ms"] or 0),
        versions=("v1", "v2", "v3"),
    )
    assert version == vector["version"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if not v["valid"]], ids=lambda v: v["name"])
def test_invalid_vector_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(RejectedRequest):
        verify(
            method=vector["method"],
            uri=vector["uri"],
            body=vector["body"].encode(),
            headers=vector["headers"],  # type: ignore[arg-type]  # JSON
            secrets=[vector["client_secret"]],
            now_ms=int(vector["now_ms"] or 0),
            versions=("v1", "v2", "v3"),
        )


def test_any_live_secret_is_accepted() -> None:
    headers = {"X-HubSpot-Signature-v3": v3(secret="older-secret"), "X-HubSpot-Request-Timestamp": str(NOW_MS)}
    assert (
        verify(method="POST", uri=URI, body=b"[]", headers=headers, secrets=[SECRET, "older-secret"], now_ms=NOW_MS)
        == "v3"
    )


@pytest.mark.parametrize("secrets", [[], [""], ["  "]])
def test_every_request_is_refused_without_a_secret(secrets: list[str]) -> None:
    assert refusal(secrets=secrets) is Refusal.SECRET_MISSING


@pytest.mark.parametrize("age_ms", [300_000, -300_000])
def test_request_at_either_edge_of_the_time_window_is_accepted(age_ms: int) -> None:
    headers = {"X-HubSpot-Signature-v3": v3(), "X-HubSpot-Request-Timestamp": str(NOW_MS)}
    request = {"method": "POST", "uri": URI, "body": b"[]", "headers": headers, "secrets": [SECRET]}
    assert verify(**request, now_ms=NOW_MS + age_ms) == "v3"  # type: ignore[arg-type]  # the dict has no value types


@pytest.mark.parametrize(
    ("age_ms", "reason"), [(300_001, Refusal.TIMESTAMP_STALE), (-300_001, Refusal.TIMESTAMP_IN_FUTURE)]
)
def test_request_beyond_either_edge_is_refused(age_ms: int, reason: Refusal) -> None:
    assert refusal(now_ms=NOW_MS + age_ms) is reason


@pytest.mark.parametrize(("digits", "reason"), [(16, Refusal.TIMESTAMP_IN_FUTURE), (17, Refusal.TIMESTAMP_MALFORMED)])
def test_timestamp_has_at_most_sixteen_digits(digits: int, reason: Refusal) -> None:
    headers = {"X-HubSpot-Signature-v3": v3(), "X-HubSpot-Request-Timestamp": "9" * digits}
    assert refusal(headers=headers) is reason


def test_request_without_a_timestamp_is_refused() -> None:
    assert refusal(headers={"X-HubSpot-Signature-v3": v3()}) is Refusal.TIMESTAMP_MISSING


def test_unsigned_request_is_refused() -> None:
    assert refusal(headers=CIMultiDict({"Host": "hooks.example.com"})) is Refusal.SIGNATURE_MISSING


@pytest.mark.parametrize("cut", [1, 43])
def test_signature_of_another_length_is_malformed(cut: int) -> None:
    headers = {"X-HubSpot-Signature-v3": v3()[:cut], "X-HubSpot-Request-Timestamp": str(NOW_MS)}
    assert refusal(headers=headers) is Refusal.SIGNATURE_MALFORMED


def test_v3_is_refused_where_only_older_versions_are_allowed() -> None:
    assert refusal(versions=("v1", "v2")) is Refusal.SIGNATURE_VERSION_NOT_ALLOWED


def legacy_headers(version: str) -> dict[str, str]:
    """Return the headers of a v1 or v2 request as HubSpot's docs define it."""
    called = b"POST" + URI.encode() if version == "v2" else b""
    digest = hashlib.sha256(SECRET.encode() + called + b"[]").hexdigest()
    return {"X-HubSpot-Signature": digest, "X-HubSpot-Signature-Version": version}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_older_version_may_be_the_only_allowed_one(version: str) -> None:
    request = {"method": "POST", "uri": URI, "body": b"[]", "headers": legacy_headers(version), "secrets": [SECRET]}
    assert verify(**request, now_ms=NOW_MS, versions=(version,)) == version  # type: ignore[arg-type]  # see above


@pytest.mark.parametrize(("version", "allowed"), [("v1", "v2"), ("v2", "v1")])
def test_one_older_version_does_not_allow_the_other(version: str, allowed: str) -> None:
    assert refusal(headers=legacy_headers(version), versions=(allowed,)) is Refusal.SIGNATURE_VERSION_NOT_ALLOWED


def test_version_that_hubspot_never_had_is_refused() -> None:
    headers = {**legacy_headers("v1"), "X-HubSpot-Signature-Version": "v9"}
    assert refusal(headers=headers, versions=("v1", "v2", "v3")) is Refusal.SIGNATURE_VERSION_UNKNOWN


@pytest.mark.parametrize(
    "text", ["", " 1795442400850", "1795442400850 ", "+1", "-1", "1e12", "1_0", "NaN", "٣", "9" * 400, "1.0"]
)
def test_timestamp_must_be_plain_digits(text: str) -> None:
    headers = {"X-HubSpot-Signature-v3": v3(at=text), "X-HubSpot-Request-Timestamp": text}
    assert refusal(headers=headers) is Refusal.TIMESTAMP_MALFORMED


def test_repeated_signature_header_is_refused() -> None:
    headers = CIMultiDict({"X-HubSpot-Signature-v3": v3(), "X-HubSpot-Request-Timestamp": str(NOW_MS)})
    headers.add("x-hubspot-signature-V3", v3())
    assert refusal(headers=headers) is Refusal.SIGNATURE_MALFORMED


def test_older_version_is_refused_unless_allowed() -> None:
    assert refusal(headers=legacy_headers("v1")) is Refusal.SIGNATURE_MISSING


def test_valid_v1_does_not_replace_a_wrong_v3() -> None:
    headers = {
        **legacy_headers("v1"),
        "X-HubSpot-Signature-v3": v3(body=b"[1]"),
        "X-HubSpot-Request-Timestamp": str(NOW_MS),
    }
    assert refusal(headers=headers, versions=("v1", "v2", "v3")) is Refusal.SIGNATURE_MISMATCH


def test_header_names_are_case_insensitive() -> None:
    headers = {"x-hubspot-signature-V3": v3(), "X-HUBSPOT-REQUEST-TIMESTAMP": str(NOW_MS)}
    assert verify(method="POST", uri=URI, body=b"[]", headers=headers, secrets=[SECRET], now_ms=NOW_MS) == "v3"


ANYTHING = st.one_of(st.none(), st.text(), st.binary(), st.integers(), st.floats(), st.lists(st.text()))


@given(
    method=ANYTHING,
    uri=ANYTHING,
    body=ANYTHING,
    name=st.text(),
    value=ANYTHING,
    timestamp=ANYTHING,
    secrets=st.lists(ANYTHING),
)
def test_arbitrary_input_raises_only_refusals(
    method: object, uri: object, body: object, name: str, value: object, timestamp: object, secrets: list[object]
) -> None:
    headers = {name: value, "X-HubSpot-Signature-v3": value, "X-HubSpot-Request-Timestamp": timestamp}
    reason = refusal(method=method, uri=uri, body=body, headers=headers, secrets=secrets)
    assert isinstance(reason, Refusal)


# An independent copy of HubSpot's table, to check the verifier against.
TABLE = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$",
    "%27": "'", "%28": "(", "%29": ")", "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip


def decoded_by_the_table(uri: str) -> str:
    """Decode the URI in one pass: three characters at a time if they are in the table, else one."""
    out, index = [], 0
    while index < len(uri):
        piece = uri[index : index + 3]
        out.append(TABLE.get(piece, uri[index]))
        index += 3 if piece in TABLE else 1
    return "".join(out)


PIECES = st.sampled_from([*TABLE, "%3a", "%20", "%25", "%253A", "%C3%A9", "+", "&", "=", "a", "/", "?", ".", "//"])


@given(
    path=st.lists(PIECES, max_size=30).map("".join),
    body=st.binary(max_size=200),
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    secret=st.text(min_size=1, max_size=40).filter(lambda s: s.strip() and s.isprintable()),
    at=st.integers(NOW_MS - 300_000, NOW_MS + 300_000),
)
def test_verifier_agrees_with_a_reference(path: str, body: bytes, method: str, secret: str, at: int) -> None:
    uri = f"https://hooks.example.com/{path}"
    signed = v3(body, uri=decoded_by_the_table(uri), method=method, at=str(at), secret=secret)
    headers = {"X-HubSpot-Signature-v3": signed, "X-HubSpot-Request-Timestamp": str(at)}
    assert verify(method=method, uri=uri, body=body, headers=headers, secrets=[secret], now_ms=NOW_MS) == "v3"


def test_signed_request_has_the_headers_of_a_json_post() -> None:
    url, body, now_ms = "https://hooks.example.com/in", b"[]", 1_795_442_400_000
    digest = hmac.digest(b"secret", f"POST{url}[]{now_ms}".encode(), hashlib.sha256)
    assert sign_request("secret", url, body, now_ms) == {
        "Content-Type": "application/json",
        "X-HubSpot-Signature-v3": base64.b64encode(digest).decode(),
        "X-HubSpot-Request-Timestamp": str(now_ms),
    }


@pytest.mark.parametrize("secret", ["k", "k" * 63, "k" * 64, "k" * 65, "k" * 300, "clé" * 21, "clé" * 22])
@pytest.mark.parametrize("body", [b"", b"[]", b"x" * 1_000])
def test_secret_of_any_length_matches_repeatedly(secret: str, body: bytes) -> None:
    headers = {
        "X-HubSpot-Signature-v3": v3(body, secret=secret), "X-HubSpot-Request-Timestamp": str(NOW_MS),
    }  # fmt: skip
    for secrets in ([secret], [SECRET, secret], [secret]):
        version = verify(method="POST", uri=URI, body=body, headers=headers, secrets=secrets, now_ms=NOW_MS)
        assert version == "v3"
