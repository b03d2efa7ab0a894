"""`explain-signature`: why does this request's signature not match? Rule: on the command line only, never over HTTP."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import orjson
import typer

from console.output import AsJson, show_json
from console.variations import Captured, explain
from core.errors import ConfigurationError
from ingest.signature import TIMESTAMP

_ADVICE = {
    "scheme": "A proxy ends TLS in front: set PUBLIC_URL to the https address that HubSpot calls.",
    "host": "Set PUBLIC_URL to the host that HubSpot calls.",
    "port": "Set PUBLIC_URL to the address that HubSpot calls, without a port unless the target URL has one.",
    "prefix": "A proxy takes a prefix off the path: let PUBLIC_URL end in it.",
    "secret": "Put the secret that matches first in HUBSPOT_CLIENT_SECRET, and mind blanks when copying it.",
    "body": "Something between HubSpot and us rewrites the body: it has to arrive byte for byte.",
    "query": "Something in front rewrites the query: register a target URL without one.",
    "timestamp": "Hash the header's text as it came.",
}


CaptureFile = Annotated[
    Path | None,
    typer.Argument(help="Captured request: raw HTTP, or JSON with method, url, headers, body; - for input."),
]


def explain_signature(
    file: CaptureFile = None,
    url: Annotated[str, typer.Option(help="The URL that HubSpot called; for a file, where it does not say.")] = "",
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="A header, as curl takes it.")] = None,
    body: Annotated[str, typer.Option("--body", "-d", help="The body; @FILE reads it from a file as it is.")] = "",
    method: Annotated[str, typer.Option("--method", "-X", help="The method.")] = "POST",
    secret: Annotated[list[str] | None, typer.Option(help="A client secret; else HUBSPOT_CLIENT_SECRET.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which variation of a captured request its signature matches, and what to do about it.

    Tried are http and https, hosts, ports, path prefixes, slashes, dropped and re-ordered queries, decodings, each
    secret, every version, re-written bodies, seconds for milliseconds.

    Exit code 0 when it matches as it stands, 1 when not.

    Example: spokes explain-signature capture.http --url https://hooks.example.com/webhooks/hubspot
    """
    secrets = secret or [part for part in os.environ.get("HUBSPOT_CLIENT_SECRET", "").split(",") if part.strip()]
    if not secrets:
        raise ConfigurationError(["There is no secret to try: set HUBSPOT_CLIENT_SECRET or give --secret."])
    request = _read(file, url) if file else Captured(method, url, _headers(header or []), _body(body))
    if not urlsplit(request.url).hostname:
        raise ConfigurationError(["The URL that HubSpot called is not known: give it with --url https://..."])
    found = explain(request, secrets)
    if as_json:
        version, departures = found or ("", [])
        show_json({"matches": found is not None and not departures, "version": version, "departures": departures})
        raise typer.Exit(0 if found and not departures else 1)
    if found is None:
        print(
            "No variation matches. Most likely the secret belongs to another app, or the body was changed on its way."
        )
        raise typer.Exit(1)
    version, departures = found
    age = _age(request.header(TIMESTAMP)) if version == "v3" else ""
    if not departures:
        print(f"The {version} signature matches as it stands.{age}")
        return
    print(f"The {version} signature matches if:{age}")
    for departure in departures:
        advice = next((text for word, text in _ADVICE.items() if word in departure), "")
        print(f"  - {departure}. {advice}".rstrip())
    raise typer.Exit(1)


def _age(timestamp: str) -> str:
    if not timestamp.isdecimal():
        return ""
    seconds = round(time.time() - int(timestamp) / 1000)
    return f" It was signed {abs(seconds)} s {'ago' if seconds >= 0 else 'ahead of our clock'}; 300 s are allowed."


def _read(file: Path, url: str) -> Captured:
    data = file.read_bytes() if str(file) != "-" else sys.stdin.buffer.read()
    if data.lstrip().startswith(b"{"):
        try:
            captured = orjson.loads(data)
            headers = {str(name): str(value) for name, value in captured["headers"].items()}
            text = str(captured.get("body", ""))
            return Captured(str(captured.get("method", "POST")), url or str(captured["url"]), headers, text.encode())
        except (orjson.JSONDecodeError, KeyError, AttributeError):
            raise ConfigurationError([f"{file} is JSON, but not with method, url, headers and body."]) from None
    head, _, body = data.partition(b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n")
    request_line, *lines = head.decode(errors="replace").splitlines()
    words = request_line.split()
    if len(words) < 2:  # noqa: PLR2004 - method and target
        raise ConfigurationError([f"{file} does not begin with a request line such as POST /x HTTP/1.1."])
    headers = _headers(lines)
    host = next((value for name, value in headers.items() if name.lower() == "host"), "")
    target = words[1] if words[1].startswith("http") else f"https://{host}{words[1]}"
    return Captured(words[0], url or target, headers, body)


def _headers(lines: list[str]) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _body(text: str) -> bytes:
    return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
