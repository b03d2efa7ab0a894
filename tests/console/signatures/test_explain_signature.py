"""spokes.console.signatures.matcher and `explain-signature`: why a signature does not match."""

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
from tests.support.command_line import Done, spokes
from tests.support.deployment import SECRET, Sign

URL = "https://hooks.example.com/eu/webhooks/hubspot?tenant=7&b=%2F"
BODY = b'[{"eventId": 1, "name": "Zo\xc3\xab"}]'


RIGHT = "https://hooks.example.com/eu/webhooks/hubspot?tenant=7&b=/"


def departures(
    sign: Sign, *, url: str = URL, body: bytes = BODY, signed_body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,),
    uri: str = RIGHT,
) -> list[str]:  # fmt: skip
    """What `explain` says of a request that was signed otherwise than it is seen."""
    found = find_match(CapturedRequest("POST", url, sign(signed_body, uri=uri), body), secrets)
    return ["nothing"] if found is None else found[1]


def test_right_request_departs_in_nothing(sign: Sign) -> None:
    assert departures(sign) == []


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"url": URL.replace("https", "http")}, "the scheme is not http"),
        ({"url": URL.replace("example.com", "example.com:8080")}, "no port stands in the URI"),
        ({"body": BODY + b"\n"}, "blanks around the body were dropped"),
        ({"secrets": ("another-secret", SECRET)}, "secret number 2 was used"),
        ({"secrets": (f" {SECRET}",)}, "the secret has blanks or quotes around it"),
    ],
)
def test_departure_is_named(sign: Sign, seen: dict[str, object], said: str) -> None:
    assert departures(sign, **seen) == [said]  # type: ignore[arg-type]  # by parameter


@pytest.mark.parametrize(
    ("signed", "said"),
    [
        ({"uri": "https://hooks.example.com/webhooks/hubspot?tenant=7&b=/"}, "the prefix /eu is missing from the path"),
        ({"uri": "https://hooks.example.com/eu/webhooks/hubspot"}, "the query was dropped"),
        ({"uri": "https://hooks.example.com/eu/webhooks/hubspot/?tenant=7&b=/"}, "the path has a slash at its end"),
        ({"uri": "https://hooks.example.com/eu/webhooks/hubspot?b=/&tenant=7"}, "the query's parameters were sorted"),
        ({"uri": "https://hooks.example.com/eu/webhooks/hubspot?tenant=7&b=%2F"}, "the URI was not decoded"),
        ({"signed_body": '[{"eventId":1,"name":"Zoë"}]'.encode()}, "the body was parsed and written again, compactly"),
    ],
)
def test_departure_of_the_sender_is_named(sign: Sign, signed: dict[str, object], said: str) -> None:
    assert departures(sign, **signed) == [said]  # type: ignore[arg-type]  # by parameter


@pytest.mark.parametrize(
    ("named", "uri", "said"),
    [
        ({"X-Forwarded-Port": "4443"}, RIGHT.replace("com/", "com:4443/"), "port 4443 stands in the URI"),
        ({"Forwarded": 'for=1.2.3.4;host="in.example.org"'}, RIGHT.replace("hooks.example.com", "in.example.org"),
         "the host is in.example.org"),
        ({"X-Forwarded-Prefix": "/s"}, RIGHT.replace("/eu/", "/s/eu/"), "the prefix /s stands before the path"),
        ({"X-Original-URI": "/other?x=1"}, "https://hooks.example.com/other?tenant=7&b=/",
         "the path is the one in X-Original-URI"),
    ],
)  # fmt: skip
def test_what_a_proxy_changed_is_found_in_what_it_wrote_down(
    sign: Sign, named: dict[str, str], uri: str, said: str
) -> None:
    assert find_match(CapturedRequest("POST", URL, sign(BODY, uri=uri) | named, BODY), [SECRET]) == ("v3", [said])


def test_parameters_in_any_order_are_found(sign: Sign) -> None:
    base = "https://hooks.example.com/webhooks/hubspot"
    found = departures(sign, url=f"{base}?a=1&b=2&c=3&d=4", uri=f"{base}?c=3&a=1&d=4&b=2")
    assert found == ["the query's parameters were put in another order"]


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        (lambda value: base64.b64decode(value).hex(), "the signature is written in hex"),
        (lambda value: value.rstrip("="), "the signature's padding is missing"),
        (lambda value: f"sha256={value}", "something stands around the signature"),
    ],
)
def test_signature_in_another_spelling_is_recognised(sign: Sign, spelled: Callable[[str], str], said: str) -> None:
    headers = sign(BODY, uri=RIGHT)
    headers["X-HubSpot-Signature-v3"] = spelled(headers["X-HubSpot-Signature-v3"])
    assert find_match(CapturedRequest("POST", URL, headers, BODY), [SECRET]) == ("v3", [said])


def test_several_departures_are_found_together(sign: Sign) -> None:
    signed = "https://hooks.example.com/webhooks/hubspot"
    found = departures(sign, url="http://hooks.example.com:8080/webhooks/hubspot", uri=signed)
    assert found == ["the scheme is not http", "no port stands in the URI"]


def test_value_of_another_version_is_recognised(sign: Sign) -> None:
    headers = sign(BODY)
    headers["X-HubSpot-Signature-v3"] = headers["X-HubSpot-Signature"]
    assert find_match(CapturedRequest("POST", URL, headers, BODY), [SECRET]) == (
        "v1", ["the header of a v3 signature holds one of v1"],
    )  # fmt: skip


def test_foreign_secret_matches_nothing(sign: Sign) -> None:
    assert departures(sign, secrets=("a-secret-of-another-app",)) == ["nothing"]


HOOK = "https://hooks.example.com/webhooks/hubspot"
V1 = {
    "X-HubSpot-Signature": hashlib.sha256(f"{SECRET}[]".encode()).hexdigest(),
    "X-HubSpot-Signature-Version": "v1",
}


def signed(timestamp: str) -> dict[str, str]:
    """The headers of a flawless signature over an empty batch, whatever its timestamp looks like."""
    digest = hmac.digest(SECRET.encode(), f"POST{HOOK}[]{timestamp}".encode(), "sha256")
    return {
        "X-HubSpot-Signature-v3": base64.b64encode(digest).decode(),
        "X-HubSpot-Request-Timestamp": timestamp,
    }


COMMAND = typer.Typer()
COMMAND.command()(explain_signature)


def explained(arguments: list[str], **more: str) -> Result:
    """What the command says, asked in this process."""
    environ = {"HUBSPOT_CLIENT_SECRET": SECRET, "SIGNATURE_VERSIONS": "", "PUBLIC_URL": ""}
    return CliRunner().invoke(COMMAND, arguments, env={**environ, **more})


def run(tmp_path: Path, *arguments: str, capture: bytes = b"") -> Done:
    (tmp_path / "capture").write_bytes(capture)
    return spokes({"HUBSPOT_CLIENT_SECRET": SECRET}, "explain-signature", *arguments)


def test_captured_http_is_explained(tmp_path: Path, sign: Sign) -> None:
    headers = sign(BODY, uri="https://hooks.example.com/webhooks/hubspot", at_ms=clock.now_ms())
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "hooks.example.com", **headers}.items())
    capture = f"POST /webhooks/hubspot HTTP/1.1\r\n{lines}\r\n".encode() + BODY
    good = run(tmp_path, str(tmp_path / "capture"), capture=capture)
    assert (good.returncode, "matches as it stands" in good.stdout) == (0, True)
    seen = ("--url", "http://hooks.example.com/webhooks/hubspot")
    behind_a_proxy = run(tmp_path, str(tmp_path / "capture"), *seen, capture=capture)
    assert (behind_a_proxy.returncode, "set PUBLIC_URL to the https address" in behind_a_proxy.stdout) == (1, True)


def test_captured_json_is_explained(tmp_path: Path, sign: Sign) -> None:
    url = "https://hooks.example.com/webhooks/hubspot"
    capture = orjson.dumps({"method": "POST", "url": url, "headers": sign(BODY, uri=url), "body": BODY.decode()})
    assert run(tmp_path, str(tmp_path / "capture"), capture=capture).returncode == 0


@pytest.mark.parametrize(
    ("headers", "environ", "said"),
    [
        ({}, {}, "There is no X-HubSpot-Signature-v3 header"),
        ({"X-HubSpot-Signature-v3": "x" * 44}, {}, "There is no X-HubSpot-Request-Timestamp header"),
        (V1, {}, "SIGNATURE_VERSIONS is v3, so a v1 signature is refused"),
        (V1, {"SIGNATURE_VERSIONS": "v3,v1"}, "The v1 signature matches as it stands"),
        (signed("1795442400"), {}, "the timestamp is in seconds"),
        (signed("soon"), {}, "the timestamp is not a number of milliseconds"),
    ],
)
def test_what_the_receiver_has_against_a_request_is_said(
    headers: dict[str, str], environ: dict[str, str], said: str
) -> None:
    arguments = [HOOK, "--data-binary", "[]"]
    for name, value in headers.items():
        arguments += ["-H", f"{name}: {value}"]
    assert said in explained(arguments, **environ).stdout


def test_file_without_a_url_is_judged_by_public_url(tmp_path: Path) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed("1795442400000").items())
    capture = f"POST /webhooks/hubspot HTTP/1.1\r\nHost: 10.0.0.7:8080\r\n{lines}\r\n[]".encode()
    (tmp_path / "capture").write_bytes(capture)
    done = explained([str(tmp_path / "capture")], PUBLIC_URL="https://hooks.example.com")
    assert (done.exit_code, "as it stands" in done.stdout) == (0, True)


def test_parsed_body_of_a_json_capture_is_written_again(tmp_path: Path) -> None:
    capture = orjson.dumps({"url": HOOK, "headers": {k: [v] for k, v in signed("1795442400000").items()}, "body": []})
    (tmp_path / "capture").write_bytes(capture)
    assert explained([str(tmp_path / "capture")]).exit_code == 0


def test_file_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, str(tmp_path / "nowhere"))
    assert (done.returncode, "Traceback" in done.stderr, "cannot be read" in done.stderr) == (2, False, True)


def test_secret_is_never_printed(tmp_path: Path, sign: Sign) -> None:
    arguments = ["--url", "https://a.example/x", "--body", "[]"]
    for name, value in sign(b"[]").items():
        arguments += ["-H", f"{name}: {value}"]
    done = run(tmp_path, *arguments)
    assert (done.returncode, SECRET in done.stdout + done.stderr) == (1, False)


def test_capture_that_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, str(tmp_path / "capture"), capture=b"hello")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
