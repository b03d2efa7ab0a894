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
            if any(character.isspace() or character in "\"'" for character in text):
                msg = "holds a blank or a quotation mark, as no client secret does; copy the secret alone"
                raise ValueError(msg)
            if len(text) < 8:  # noqa: PLR2004 - shorter than any secret HubSpot issues, and guessable
                msg = "is too short to be a HubSpot client secret"
                raise ValueError(msg)
    return parts


def _webhook_url(value: object) -> object:
    """Accept https, and http on this machine alone; the address itself may be a secret, as Slack's is."""
    url = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if url and not is_private(url):
        msg = "must be an https address"
        raise ValueError(msg)
    return value


def is_private(url: str) -> bool:
    """Whether nobody on the way can read or change what is sent there: over https, or on this machine alone."""
    parts = urlsplit(url)
    return (parts.scheme == "https" and bool(parts.hostname)) or (parts.scheme, parts.hostname) in _LOOPBACK


def _issuer(value: object) -> object:
    """Accept what an identity provider calls itself, as it is: its tokens repeat it letter by letter."""
    parts = urlsplit(str(value))
    if value and not (is_private(str(value)) and not parts.query and not parts.fragment):
        msg = "must be an https address such as https://login.example.com, without query or fragment"
        raise ValueError(msg)
    return value


def _grants(value: object) -> object:
    """Turn "ops=operator, ada@example.com=admin" into pairs."""
    parts = _split(value)
    if not isinstance(parts, tuple):
        return parts
    pairs = [part.rpartition("=") if isinstance(part, str) else part for part in parts]
    if not all(len(pair) != 3 or (pair[0].strip() and pair[1]) for pair in pairs):  # noqa: PLR2004 - of rpartition
        msg = "must be pairs such as ops-team=operator,ada@example.com=admin"
        raise ValueError(msg)
    return tuple((pair[0].strip(), pair[-1].strip()) for pair in pairs)


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
RoleName: TypeAlias = Literal["viewer", "operator", "privacy_officer", "admin"]
Issuer: TypeAlias = Annotated[str, BeforeValidator(_issuer)]
Grants: TypeAlias = Annotated[tuple[tuple[str, RoleName], ...], NoDecode, BeforeValidator(_grants)]
