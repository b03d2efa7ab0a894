"""The signature matcher and `explain-signature`: why a signature does not match."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner, Result

from spokes.console.commands.explain_signature import explain_signature
from spokes.console.signatures.captured_request import CapturedRequest
from spokes.console.signatures.matcher import find_match
from spokes.core import clock
from tests.support.command_line import CompletedCommand, spokes
from tests.support.deployment import SECRET, Sign

URL = "https://hooks.example.com/eu/webhooks/hubspot?tenant=7&b=%2F"
BODY = b'[{"eventId": 1, "name": "Zo\xc3\xab"}]'


SIGNED_URI = "https://hooks.example.com/eu/webhooks/hubspot?tenant=7&b=/"


def differences(
    sign: Sign, *, url: str = URL, body: bytes = BODY, signed_body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,),
    uri: str = SIGNED_URI,
) -> list[str]:  # fmt: skip
    """Return the differences of a request that was signed with other values than it was captured with."""
    match = find_match(CapturedRequest("POST", url, sign(signed_body, uri=uri), body), secrets)
    return ["nothing"] if match is None else match[1]


def test_unchanged_request_has_no_difference(sign: Sign) -> None:
    assert differences(sign) == []


@pytest.mark.parametrize(
    ("captured", "difference"),
    [
        ({"url": URL.replace("https", "http")}, "the scheme is https"),
        ({"url": URL.replace("example.com", "example.com:8080")}, "the URI has no port"),
        ({"body": BODY + b"\n"}, "white space around the body was dropped"),
        ({"secrets": ("another-secret", SECRET)}, "secret number 2 was used"),
        ({"secrets": (f" {SECRET}",)}, "the secret has spaces or quotes around it"),
    ],
)
def test_difference_is_named(sign: Sign, captured: dict[str, object], difference: str) -> None:
    assert differences(sign, **captured) == [difference]  # type: ignore[arg-type]  # by parameter


@pytest.mark.parametrize(
    ("signed", "difference"),
    [
        ({"uri": "https://hooks.example.com/webhooks/hubspot?tenant=7&b=/"}, "the prefix /eu is missing from the path"),
        ({"uri": "https://hooks.example.com/eu/webhooks/hubspot"}, "the query was dropped"),
        ({"uri": "https://hooks.example.com/eu/webhooks/hubspot/?tenant=7&b=/"}, "the path has a slash at its end"),
        ({"uri": "https://hooks.example.com/eu/webhooks/hubspot?b=/&tenant=7"}, "the query's parameters were sorted"),
        ({"uri": "https://hooks.example.com/eu/webhooks/hubspot?tenant=7&b=%2F"}, "the URI was not decoded"),
        (
            {"signed_body": '[{"eventId":1,"name":"Zoë"}]'.encode()},
            "the body was parsed and serialised again, compactly",
        ),
    ],
)
def test_difference_in_the_signed_values_is_named(sign: Sign, signed: dict[str, object], difference: str) -> None:
    assert differences(sign, **signed) == [difference]  # type: ignore[arg-type]  # by parameter


@pytest.mark.parametrize(
    ("headers", "uri", "difference"),
    [
        ({"X-Forwarded-Port": "4443"}, SIGNED_URI.replace("com/", "com:4443/"), "the URI has port 4443"),
        ({"Forwarded": 'for=1.2.3.4;host="in.example.org"'}, SIGNED_URI.replace("hooks.example.com", "in.example.org"),
         "the host is in.example.org"),
        ({"X-Forwarded-Prefix": "/s"}, SIGNED_URI.replace("/eu/", "/s/eu/"), "the path begins with the prefix /s"),
        ({"X-Original-URI": "/other?x=1"}, "https://hooks.example.com/other?tenant=7&b=/",
         "the path is the one in X-Original-URI"),
    ],
)  # fmt: skip
def test_change_that_a_proxy_recorded_is_found(sign: Sign, headers: dict[str, str], uri: str, difference: str) -> None:
    assert find_match(CapturedRequest("POST", URL, sign(BODY, uri=uri) | headers, BODY), [SECRET]) == (
        "v3",
        [difference],
    )


def test_parameters_in_another_order_are_found(sign: Sign) -> None:
    base = "https://hooks.example.com/webhooks/hubspot"
    found = differences(sign, url=f"{base}?a=1&b=2&c=3&d=4", uri=f"{base}?c=3&a=1&d=4&b=2")
    assert found == ["the query's parameters were put in another order"]


@pytest.mark.parametrize(
    ("encode", "difference"),
    [
        (lambda value: base64.b64decode(value).hex(), "the signature is written in hex"),
        (lambda value: value.rstrip("="), "the signature's padding is missing"),
        (lambda value: f"sha256={value}", "the signature has a prefix or quotes"),
    ],
)
def test_signature_in_another_encoding_is_recognised(sign: Sign, encode: Callable[[str], str], difference: str) -> None:
    headers = sign(BODY, uri=SIGNED_URI)
    headers["X-HubSpot-Signature-v3"] = encode(headers["X-HubSpot-Signature-v3"])
    assert find_match(CapturedRequest("POST", URL, headers, BODY), [SECRET]) == ("v3", [difference])


def test_several_differences_are_found_together(sign: Sign) -> None:
    signed = "https://hooks.example.com/webhooks/hubspot"
    found = differences(sign, url="http://hooks.example.com:8080/webhooks/hubspot", uri=signed)
    assert found == ["the scheme is https", "the URI has no port"]


def test_signature_of_another_version_is_recognised(sign: Sign) -> None:
    headers = sign(BODY)
    headers["X-HubSpot-Signature-v3"] = headers["X-HubSpot-Signature"]
    assert find_match(CapturedRequest("POST", URL, headers, BODY), [SECRET]) == (
        "v1", ["the header of a v3 signature holds one of v1"],
    )  # fmt: skip


def test_secret_of_another_app_matches_nothing(sign: Sign) -> None:
    assert differences(sign, secrets=("a-secret-of-another-app",)) == ["nothing"]


HOOK = "https://hooks.example.com/webhooks/hubspot"
V1 = {
    "X-HubSpot-Signature": hashlib.sha256(f"{SECRET}[]".encode()).hexdigest(),
    "X-HubSpot-Signature-Version": "v1",
}


def signed_headers(timestamp: str) -> dict[str, str]:
    """Return the headers of a correctly signed empty batch with any timestamp, valid or not."""
    digest = hmac.digest(SECRET.encode(), f"POST{HOOK}[]{timestamp}".encode(), "sha256")
    return {
        "X-HubSpot-Signature-v3": base64.b64encode(digest).decode(),
        "X-HubSpot-Request-Timestamp": timestamp,
    }


COMMAND = typer.Typer()
COMMAND.command()(explain_signature)


def explain(arguments: list[str], **environ: str) -> Result:
    """Run the command in this process."""
    defaults = {"HUBSPOT_CLIENT_SECRET": SECRET, "SIGNATURE_VERSIONS": "", "PUBLIC_URL": ""}
    return CliRunner().invoke(COMMAND, arguments, env={**defaults, **environ})


def run(tmp_path: Path, *arguments: str, capture: bytes = b"") -> CompletedCommand:
    (tmp_path / "capture").write_bytes(capture)
    return spokes({"HUBSPOT_CLIENT_SECRET": SECRET}, "explain-signature", *arguments)


def test_captured_http_is_explained(tmp_path: Path, sign: Sign) -> None:
    headers = sign(BODY, uri="https://hooks.example.com/webhooks/hubspot", at_ms=clock.now_ms())
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "hooks.example.com", **headers}.items())
    capture = f"POST /webhooks/hubspot HTTP/1.1\r\n{lines}\r\n".encode() + BODY
    unchanged = run(tmp_path, str(tmp_path / "capture"), capture=capture)
    assert (unchanged.returncode, "matches the request unchanged" in unchanged.stdout) == (0, True)
    plain_http = ("--url", "http://hooks.example.com/webhooks/hubspot")
    behind_a_proxy = run(tmp_path, str(tmp_path / "capture"), *plain_http, capture=capture)
    assert (behind_a_proxy.returncode, "set PUBLIC_URL to the https address" in behind_a_proxy.stdout) == (1, True)


def test_settings_are_read_as_the_receiver_reads_them(tmp_path: Path, sign: Sign) -> None:
    headers = sign(BODY, uri=HOOK, at_ms=clock.now_ms())
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "10.0.0.1", **headers}.items())
    (tmp_path / "capture").write_bytes(f"POST /webhooks/hubspot HTTP/1.1\r\n{lines}\r\n".encode() + BODY)
    environ = {
        "HUBSPOT_CLIENT_SECRET": f" {SECRET} ,", "PUBLIC_URL": "https://hooks.example.com/",
        "SIGNATURE_MAX_AGE_S": "60",
    }  # fmt: skip
    result = spokes(environ, "explain-signature", str(tmp_path / "capture"))
    assert (result.returncode, "matches the request unchanged" in result.stdout) == (0, True), result
    assert "60 s are allowed" in result.stdout


@pytest.mark.parametrize("value", ["pat-eu1-11112222", f"'{SECRET}'"])
def test_invalid_setting_is_named(tmp_path: Path, value: str) -> None:
    result = spokes({"HUBSPOT_CLIENT_SECRET": value}, "explain-signature", "-H", "A: b", "--url", HOOK)
    assert (result.returncode, "HUBSPOT_CLIENT_SECRET" in result.stderr, "Traceback" in result.stderr) == (
        2, True, False,
    )  # fmt: skip
    assert value.strip("'") not in result.stderr


def test_timestamp_of_thousands_of_digits_is_named() -> None:
    headers = [f"--header={name}: {value}" for name, value in signed_headers("1" * 5_000).items()]
    result = explain(["--url", HOOK, "--body", "[]", *headers])
    assert (result.exit_code, "the timestamp is not a number of milliseconds" in result.output) == (1, True), result


def test_captured_json_is_explained(tmp_path: Path, sign: Sign) -> None:
    url = "https://hooks.example.com/webhooks/hubspot"
    capture = orjson.dumps({"method": "POST", "url": url, "headers": sign(BODY, uri=url), "body": BODY.decode()})
    assert run(tmp_path, str(tmp_path / "capture"), capture=capture).returncode == 0


@pytest.mark.parametrize(
    ("headers", "environ", "sentence"),
    [
        ({}, {}, "The header X-HubSpot-Signature-v3 is missing"),
        ({"X-HubSpot-Signature-v3": "x" * 44}, {}, "The header X-HubSpot-Request-Timestamp is missing"),
        (V1, {}, "SIGNATURE_VERSIONS is v3, so a v1 signature is refused"),
        (V1, {"SIGNATURE_VERSIONS": "v3,v1"}, "The v1 signature matches the request unchanged"),
        (signed_headers("1795442400"), {}, "the timestamp is in seconds"),
        (signed_headers("soon"), {}, "the timestamp is not a number of milliseconds"),
    ],
)
def test_reason_of_the_receivers_refusal_is_printed(
    headers: dict[str, str], environ: dict[str, str], sentence: str
) -> None:
    arguments = [HOOK, "--data-binary", "[]"]
    for name, value in headers.items():
        arguments += ["-H", f"{name}: {value}"]
    assert sentence in explain(arguments, **environ).stdout


def test_file_without_a_url_is_checked_against_public_url(tmp_path: Path) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed_headers("1795442400000").items())
    capture = f"POST /webhooks/hubspot HTTP/1.1\r\nHost: 10.0.0.7:8080\r\n{lines}\r\n[]".encode()
    (tmp_path / "capture").write_bytes(capture)
    done = explain([str(tmp_path / "capture")], PUBLIC_URL="https://hooks.example.com")
    assert (done.exit_code, "the request unchanged" in done.stdout) == (0, True)


def test_parsed_body_of_a_json_capture_is_serialised_again(tmp_path: Path) -> None:
    capture = orjson.dumps(
        {"url": HOOK, "headers": {k: [v] for k, v in signed_headers("1795442400000").items()}, "body": []}
    )
    (tmp_path / "capture").write_bytes(capture)
    assert explain([str(tmp_path / "capture")]).exit_code == 0


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, str(tmp_path / "nowhere"))
    assert (done.returncode, "Traceback" in done.stderr, "cannot be read" in done.stderr) == (2, False, True)


def test_secret_is_never_printed(tmp_path: Path, sign: Sign) -> None:
    arguments = ["--url", "https://a.example/x", "--body", "[]"]
    for name, value in sign(b"[]").items():
        arguments += ["-H", f"{name}: {value}"]
    done = run(tmp_path, *arguments)
    assert (done.returncode, SECRET in done.stdout + done.stderr) == (1, False)


def test_file_that_is_no_capture_is_one_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, str(tmp_path / "capture"), capture=b"hello")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
