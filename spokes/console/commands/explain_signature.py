"""`explain-signature`: why the signature of a captured request does not match. Never offered over HTTP."""

import time
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from spokes.console.output import JsonOption, print_json
from spokes.console.signatures.captured_request import CapturedRequest, from_arguments, from_file
from spokes.console.signatures.matcher import find_match, missing_header
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings
from spokes.core.signature import TIMESTAMP_HEADER, parse_timestamp

_ADVICE: Final = {  # by a word that the difference contains
    "scheme": "A proxy in front ends TLS: set PUBLIC_URL to the https address that HubSpot calls.",
    "host": "Set PUBLIC_URL to the host that HubSpot calls.",
    "port": "Set PUBLIC_URL to the address that HubSpot calls, without a port unless the target URL has one.",
    "prefix": "A proxy removes or adds a path prefix: let PUBLIC_URL end with the prefix that HubSpot calls.",
    "secret": "Put the matching secret first in HUBSPOT_CLIENT_SECRET, without spaces or quotes.",
    "body": "Something between HubSpot and Spokes rewrites the body: pass it on byte for byte.",
    "query": "A proxy in front rewrites the query: register a target URL without one.",
    "timestamp": "Hash the header's text unchanged.",
    "signature is written": "HubSpot writes v3 in base64, v1 and v2 in hex; this signature was made by something else.",
}
_SECONDS_DIGITS: Final = 11  # epoch seconds have ten digits until the year 2286, milliseconds thirteen

CaptureFileArgument = Annotated[
    str,
    typer.Argument(
        help="Captured request: raw HTTP, or JSON with method, url, headers and body; - reads standard input."
    ),
]


def explain_signature(
    file: CaptureFileArgument = "",
    url: Annotated[
        str, typer.Option(help="The URL that HubSpot called; needed when a file does not contain the public one.")
    ] = "",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="A header, written as for curl; repeatable.")
    ] = None,
    body: Annotated[
        str, typer.Option("--body", "-d", "--data-binary", help="The body; @FILE reads it unchanged from a file.")
    ] = "",
    method: Annotated[str, typer.Option("--method", "-X", "--request", help="The method.")] = "POST",
    secret: Annotated[
        list[str] | None, typer.Option(help="A client secret to try; default: HUBSPOT_CLIENT_SECRET.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the variation of a captured request that its signature matches, and explain the remedy.

    It tries http and https, hosts, ports, path prefixes, slashes, dropped and reordered queries, decodings, each
    secret, every version, re-serialised bodies, seconds for milliseconds, and what the headers of proxies record.
    Pass the URL that HubSpot called as --url, or in place of a file. Without it, PUBLIC_URL is put before the target
    that the file contains.

    Exit code 0 when the request matches unchanged, 1 when not.

    Example: spokes explain-signature capture.http --url https://hooks.example.com/webhooks/hubspot
    """
    settings = Settings.from_env()
    secrets = tuple(secret or settings.client_secrets)
    if not secrets:
        raise ConfigurationError(["There is no client secret to try: set HUBSPOT_CLIENT_SECRET or use --secret."])
    if file.startswith(("http://", "https://")):
        file, url = "", file
    request = (
        from_file(file, url=url, public_url=settings.public_url)
        if file
        else from_arguments(method, url, header or [], body)
    )
    if not urlsplit(request.url).hostname:
        raise ConfigurationError(["The URL that HubSpot called is unknown: add --url https://..."])
    version, differences = find_match(request, secrets) or ("", [])
    problem = _timestamp_problem(request) if version == "v3" else ""
    matches = bool(version) and not differences and not problem
    if as_json:
        print_json({"matches": matches, "version": version, "departures": [*differences, *filter(None, [problem])]})
    else:
        _print_result(request, version, differences, problem, settings)
    raise typer.Exit(0 if matches else 1)


def _print_result(
    request: CapturedRequest, version: str, differences: list[str], problem: str, settings: Settings
) -> None:
    if missing := missing_header(request):
        print(f"The header {missing} is missing or empty, so nothing can match. Capture the request with all headers.")
    elif not version:
        print(
            "No variation matches. Most likely the secret belongs to another app, or the body was changed on its way. "
            "Compare HUBSPOT_CLIENT_SECRET with the app's Auth page, and capture the body byte for byte."
        )
    age = _describe_age(request.header(TIMESTAMP_HEADER), settings.signature_max_age_s) if version == "v3" else ""
    if version and not differences:
        print(f"The {version} signature matches the request unchanged.{age}")
    elif version:
        print(f"The {version} signature matches if:{age}")
    for difference in differences:
        advice = next((text for word, text in _ADVICE.items() if word in difference), "")
        print(f"  - {difference}. {advice}".rstrip())
    if problem:
        print(f"The receiver still refuses the request: {problem}.")
    if version and version not in settings.signature_versions:
        accepted = ",".join(settings.signature_versions)
        print(
            f"SIGNATURE_VERSIONS is {accepted}, so a {version} signature is refused: it does not prove the request's "
            "age. Let the app sign with v3."
        )


def _timestamp_problem(request: CapturedRequest) -> str:
    """Return why the receiver refuses the timestamp, however it was signed; its age is printed separately."""
    text = request.header(TIMESTAMP_HEADER)
    if parse_timestamp(text) is None:
        return "the timestamp is not a number of milliseconds"
    return "the timestamp is in seconds, HubSpot's is in milliseconds" if len(text) <= _SECONDS_DIGITS else ""


def _describe_age(timestamp: str, max_age_s: int) -> str:
    signed_ms = parse_timestamp(timestamp)
    if signed_ms is None or len(timestamp) <= _SECONDS_DIGITS:
        return ""
    seconds = round(time.time() - signed_ms / 1000)
    return (
        f" It was signed {abs(seconds)} s {'ago' if seconds >= 0 else 'ahead of our clock'}; {max_age_s} s are allowed."
    )
