"""`explain-signature`: why does this request's signature not match? Rule: on the command line only, never over HTTP."""

import os
import time
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from spokes.console.output import JsonOption, print_json
from spokes.console.signatures.captured_request import CapturedRequest, from_arguments, from_file
from spokes.console.signatures.matcher import find_match, missing_header
from spokes.core.errors import ConfigurationError
from spokes.core.signature import TIMESTAMP_HEADER

_ADVICE: Final = {
    "scheme": "A proxy ends TLS in front: set PUBLIC_URL to the https address that HubSpot calls.",
    "host": "Set PUBLIC_URL to the host that HubSpot calls.",
    "port": "Set PUBLIC_URL to the address that HubSpot calls, without a port unless the target URL has one.",
    "prefix": "A proxy takes a prefix off the path, or puts one before it: let PUBLIC_URL end in what HubSpot calls.",
    "secret": "Put the secret that matches first in HUBSPOT_CLIENT_SECRET, and mind blanks when copying it.",
    "body": "Something between HubSpot and us rewrites the body: it has to arrive byte for byte.",
    "query": "Something in front rewrites the query: register a target URL without one.",
    "timestamp": "Hash the header's text as it came.",
    "signature is written": "HubSpot writes v3 in base64, v1 and v2 in hex; whoever signed this did otherwise.",
}
_SECONDS_DIGITS: Final = 11  # epoch seconds have ten until the year 2286, milliseconds thirteen

CaptureFileArgument = Annotated[
    str, typer.Argument(help="Captured request: raw HTTP, or JSON with method, url, headers, body; - for input.")
]


def explain_signature(
    file: CaptureFileArgument = "",
    url: Annotated[str, typer.Option(help="The URL that HubSpot called; for a file, where it does not say.")] = "",
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="A header, as curl takes it.")] = None,
    body: Annotated[
        str, typer.Option("--body", "-d", "--data-binary", help="The body; @FILE reads it from a file as it is.")
    ] = "",
    method: Annotated[str, typer.Option("--method", "-X", "--request", help="The method.")] = "POST",
    secret: Annotated[list[str] | None, typer.Option(help="A client secret; else HUBSPOT_CLIENT_SECRET.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which variation of a captured request its signature matches, and what to do about it.

    Tried are http and https, hosts, ports, path prefixes, slashes, dropped and re-ordered queries, decodings, each
    secret, every version, re-written bodies, seconds for milliseconds; also what headers of proxies tell.
    A URL in place of the file is as good as --url. Without either, PUBLIC_URL is put before the target of a file.

    Exit code 0 when it matches as it stands, 1 when not.

    Example: spokes explain-signature capture.http --url https://hooks.example.com/webhooks/hubspot
    """
    secrets = secret or [part for part in os.environ.get("HUBSPOT_CLIENT_SECRET", "").split(",") if part.strip()]
    if not secrets:
        raise ConfigurationError(["There is no secret to try: set HUBSPOT_CLIENT_SECRET or give --secret."])
    if file.startswith(("http://", "https://")):
        file, url = "", file
    request = (
        from_file(file, url=url, public_url=os.environ.get("PUBLIC_URL", "").rstrip("/"))
        if file
        else from_arguments(method, url, header or [], body)
    )
    if not urlsplit(request.url).hostname:
        raise ConfigurationError(["The URL that HubSpot called is not known: give it with --url https://..."])
    version, departures = find_match(request, secrets) or ("", [])
    doubt = _timestamp_problem(request) if version == "v3" else ""
    matches = bool(version) and not departures and not doubt
    if as_json:
        print_json({"matches": matches, "version": version, "departures": [*departures, *filter(None, [doubt])]})
    else:
        _print_result(request, version, departures, doubt)
    raise typer.Exit(0 if matches else 1)


def _print_result(request: CapturedRequest, version: str, departures: list[str], doubt: str) -> None:
    if absent := missing_header(request):
        print(f"There is no {absent} header, or it is empty: without it nothing can match.")
    elif not version:
        print(
            "No variation matches. Most likely the secret belongs to another app, or the body was changed on its way."
        )
    age = _describe_age(request.header(TIMESTAMP_HEADER)) if version == "v3" else ""
    if version and not departures:
        print(f"The {version} signature matches as it stands.{age}")
    elif version:
        print(f"The {version} signature matches if:{age}")
    for departure in departures:
        advice = next((text for word, text in _ADVICE.items() if word in departure), "")
        print(f"  - {departure}. {advice}".rstrip())
    if doubt:
        print(f"It is refused all the same: {doubt}.")
    taken = os.environ.get("SIGNATURE_VERSIONS", "") or "v3"
    if version and version not in taken:
        print(f"SIGNATURE_VERSIONS is {taken}, so a {version} signature is refused: it does not show its age.")


def _timestamp_problem(request: CapturedRequest) -> str:
    """What the receiver has against a timestamp, however well it was signed; its age is told beside it."""
    text = request.header(TIMESTAMP_HEADER)
    if not (text.isascii() and text.isdecimal()):
        return "the timestamp is not a number of milliseconds"
    return "the timestamp is in seconds, HubSpot's is in milliseconds" if len(text) <= _SECONDS_DIGITS else ""


def _describe_age(timestamp: str) -> str:
    if not timestamp.isdecimal() or len(timestamp) <= _SECONDS_DIGITS:
        return ""
    seconds = round(time.time() - int(timestamp) / 1000)
    return f" It was signed {abs(seconds)} s {'ago' if seconds >= 0 else 'ahead of our clock'}; 300 s are allowed."
