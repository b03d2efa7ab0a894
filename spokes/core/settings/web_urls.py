"""Parse the settings that are http or https URLs."""

from typing import Final

from spokes.core.settings.url_parts import UrlParts, is_loopback, split_url

RECEIVER_PATH: Final = "/webhooks/hubspot"
_SCHEMES: Final = frozenset({"http", "https"})


def is_confidential_url(url: str) -> bool:
    """Return whether what is sent to `url` cannot be read or changed on its way: it is https, or on this machine."""
    try:
        parts = split_url(url, "https://example.com")
    except ValueError:
        return False
    return _is_confidential(parts)


def _is_confidential(parts: UrlParts) -> bool:
    return bool(parts.host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.host)))


def parse_public_url(text: str) -> str:
    """Accept the base URL or the target URL of HubSpot's form; return the base URL.

    Raises:
        ValueError: with a sentence.
    """
    base = text.rstrip("/").removesuffix(RECEIVER_PATH).rstrip("/")
    example = "https://hooks.example.com"
    parts = split_url(base, example)
    if parts.scheme not in _SCHEMES or not parts.host or parts.query or "?" in base or parts.user or parts.password:
        raise ValueError(f"must be a URL such as {example}, without query, fragment, user or password")
    return base


def parse_api_url(text: str) -> str:
    """Accept https, and http on this machine only: the access token is sent there.

    Raises:
        ValueError: with a sentence.
    """
    return _parse_hubspot_url(text, "https://api.hubapi.com", "plain http would show the access token to others")


def parse_app_url(text: str) -> str:
    """Accept https, and http on this machine only: people log in to HubSpot there.

    Raises:
        ValueError: with a sentence.
    """
    return _parse_hubspot_url(text, "https://app.hubspot.com", "people log in to HubSpot there")


def _parse_hubspot_url(text: str, example: str, reason: str) -> str:
    parts = split_url(text, example)
    if parts.scheme not in _SCHEMES or not parts.host or "?" in text or parts.user or parts.password:
        raise ValueError(f"must be a URL such as {example}, without query, user or password")
    if not _is_confidential(parts):
        raise ValueError(f"must be an https URL such as {example}: {reason}")
    return text.rstrip("/")


def parse_webhook_url(text: str) -> str:
    """Accept https, and http on this machine only. The URL may be a secret, as Slack's is.

    Raises:
        ValueError: with a sentence.
    """
    example = "https://hooks.example.com/path"
    if not _is_confidential(split_url(text, example)):
        raise ValueError(f"must be an https URL such as {example}")
    return text


def parse_checkpoint_target(text: str) -> str:
    """Accept an https URL, http on this machine, or the absolute path of a file. The URL may be a secret.

    Raises:
        ValueError: with a sentence.
    """
    if not text.startswith("/") and not is_confidential_url(text):
        raise ValueError("must be an https URL, or the absolute path of a file such as /var/backups/checkpoints.txt")
    return text


def parse_issuer(text: str) -> str:
    """Accept an issuer URL unchanged: the provider's tokens repeat it character by character.

    Raises:
        ValueError: with a sentence.
    """
    example = "https://login.example.com"
    if not _is_confidential(split_url(text, example)) or "?" in text:
        raise ValueError(f"must be an https URL such as {example}, without query or fragment")
    return text


def parse_origin(text: str) -> str:
    """Accept an origin: scheme, host and port of a site.

    Raises:
        ValueError: with a sentence.
    """
    example = "https://ops.example.com"
    parts = split_url(text, example)
    if parts.scheme not in _SCHEMES or not parts.host or text.count("/") != 2 or "?" in text or parts.user:  # noqa: PLR2004 - the slashes of ://
        raise ValueError(f"must be origins such as {example}, without a path, separated by commas")
    return text


def parse_dsn(text: str) -> str:
    """Accept what Sentry's own parser accepts.

    Raises:
        ValueError: with a sentence.
    """
    from sentry_sdk.utils import BadDsn, Dsn  # noqa: PLC0415 - a process without Sentry saves three megabytes

    message = "must be the DSN that Sentry shows, such as https://key@o1.ingest.sentry.io/2; leave it unset for none"
    try:
        split_url(text, "https://key@o1.ingest.sentry.io/2")
        Dsn(text)
    except (BadDsn, ValueError):
        raise ValueError(message) from None
    return text
