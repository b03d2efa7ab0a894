"""console.variations and `explain-signature`: why a signature does not match."""

import os
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from conftest import SECRET, Sign
from console.variations import Captured, explain

ROOT = Path(__file__).parent.parent
URL = "https://hooks.example.com/eu/webhooks/hubspot?tenant=7&b=%2F"
BODY = b'[{"eventId": 1, "name": "Zo\xc3\xab"}]'


RIGHT = "https://hooks.example.com/eu/webhooks/hubspot?tenant=7&b=/"


def departures(
    sign: Sign, *, url: str = URL, body: bytes = BODY, signed_body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,),
    uri: str = RIGHT,
) -> list[str]:  # fmt: skip
    """What `explain` says of a request that was signed otherwise than it is seen."""
    found = explain(Captured("POST", url, sign(signed_body, uri=uri), body), secrets)
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
        ({"secrets": (f" {SECRET}",)}, "the secret has blanks around it"),
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


def test_several_departures_are_found_together(sign: Sign) -> None:
    signed = "https://hooks.example.com/webhooks/hubspot"
    found = departures(sign, url="http://hooks.example.com:8080/webhooks/hubspot", uri=signed)
    assert found == ["the scheme is not http", "no port stands in the URI"]


def test_value_of_another_version_is_recognised(sign: Sign) -> None:
    headers = sign(BODY)
    headers["X-HubSpot-Signature-v3"] = headers["X-HubSpot-Signature"]
    assert explain(Captured("POST", URL, headers, BODY), [SECRET]) == (
        "v1", ["the header of a v3 signature holds one of v1"],
    )  # fmt: skip


def test_foreign_secret_matches_nothing(sign: Sign) -> None:
    assert departures(sign, secrets=("a-secret-of-another-app",)) == ["nothing"]


def run(tmp_path: Path, *arguments: str, capture: bytes = b"") -> subprocess.CompletedProcess[str]:
    (tmp_path / "capture").write_bytes(capture)
    command = [sys.executable, "-m", "console", "explain-signature", *arguments]
    environ = {**os.environ, "HUBSPOT_CLIENT_SECRET": SECRET}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_captured_http_is_explained(tmp_path: Path, sign: Sign) -> None:
    headers = sign(BODY, uri="https://hooks.example.com/webhooks/hubspot", at_ms=time.time_ns() // 1_000_000)
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


def test_secret_is_never_printed(tmp_path: Path, sign: Sign) -> None:
    arguments = ["--url", "https://a.example/x", "--body", "[]"]
    for name, value in sign(b"[]").items():
        arguments += ["-H", f"{name}: {value}"]
    done = run(tmp_path, *arguments)
    assert (done.returncode, SECRET in done.stdout + done.stderr) == (1, False)


def test_capture_that_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, str(tmp_path / "capture"), capture=b"hello")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
