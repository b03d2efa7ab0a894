"""How the text of an environment variable becomes a value. Rule: what is wrong is said without quoting the value."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import NoDecode

RECEIVER_PATH: Final = "/webhooks/hubspot"
_SHORTEST_KEY: Final = 32  # characters
_LOOPBACK: Final = frozenset({("http", "127.0.0.1"), ("http", "::1"), ("http", "localhost")})


def _split(value: object) -> object:
    """Turn "a, b" into ("a", "b"); leave anything already split alone."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _public_url(value: object) -> object:
    """Accept the base URL or the whole target URL, as HubSpot's form asks for; keep the base."""
    if not isinstance(value, str) or not value:
        return value
    base = value.rstrip("/").removesuffix(RECEIVER_PATH)
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        msg = "must be a URL such as https://hooks.example.com, without query or fragment"
        raise ValueError(msg)
    return base


def _client_secrets(value: object) -> object:
    parts = _split(value)
    if isinstance(parts, tuple):
        for part in parts:
            text = part.get_secret_value() if isinstance(part, SecretStr) else str(part)
            if text.lower().startswith("pat-"):
                msg = "is an access token (pat-...); HubSpot signs with the app's client secret, found on its Auth page"
                raise ValueError(msg)
            if len(text) < 8:  # noqa: PLR2004 - shorter than any secret HubSpot issues, and guessable
                msg = "is too short to be a HubSpot client secret"
                raise ValueError(msg)
    return parts


def _webhook_url(value: object) -> object:
    """Accept https, and http on this machine alone; the address itself may be a secret, as Slack's is."""
    parts = urlsplit(value.get_secret_value() if isinstance(value, SecretStr) else str(value))
    if (
        parts.geturl()
        and (parts.scheme, parts.hostname) not in _LOOPBACK
        and not (parts.scheme == "https" and parts.hostname)
    ):
        msg = "must be an https address"
        raise ValueError(msg)
    return value


def _console_key(value: object) -> object:
    """Refuse a key that could be guessed."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if text and len(text) < _SHORTEST_KEY:
        msg = "needs at least 32 characters; `openssl rand -hex 32` makes a good one"
        raise ValueError(msg)
    return value


Words: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Numbers: TypeAlias = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_split)]
Seconds: TypeAlias = Annotated[tuple[float, ...], NoDecode, BeforeValidator(_split)]
Secrets: TypeAlias = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
ClientSecrets: TypeAlias = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_client_secrets)]
Networks: TypeAlias = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)]
SignatureVersions: TypeAlias = Annotated[tuple[Literal["v1", "v2", "v3"], ...], NoDecode, BeforeValidator(_split)]
PublicUrl: TypeAlias = Annotated[str, BeforeValidator(_public_url)]
WebhookUrl: TypeAlias = Annotated[SecretStr, BeforeValidator(_webhook_url)]
ConsoleKey: TypeAlias = Annotated[SecretStr, BeforeValidator(_console_key)]
