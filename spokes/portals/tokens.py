"""OAuth tokens of HubSpot, and the text in which those of a portal are sealed."""

from dataclasses import dataclass
from typing import Final

import orjson
from pydantic import SecretStr

DEFAULT_LIFETIME_S: Final = 1800
_LONGEST_LIFETIME_S: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Tokens:
    """The OAuth tokens of one portal; `expires_at` of the access token in epoch ms."""

    access_token: SecretStr
    refresh_token: SecretStr
    expires_at: int
    lifetime_s: int = DEFAULT_LIFETIME_S
    hub_id: int = 0  # the portal that HubSpot's response names, 0 if it names none; not stored


@dataclass(frozen=True, slots=True)
class AppToken:
    """An access token of the app itself; HubSpot gives no refresh token with it."""

    access_token: SecretStr
    lifetime_s: int


def usable_lifetime_s(expires_in: int | None) -> int:
    """Return the lifetime that HubSpot named, or the usual one if it named none that can be true."""
    is_usable = expires_in is not None and 0 < expires_in <= _LONGEST_LIFETIME_S
    return expires_in if expires_in is not None and is_usable else DEFAULT_LIFETIME_S


def tokens_to_json(tokens: Tokens) -> str:
    """Return tokens as text, to be sealed."""
    content = {
        "access_token": tokens.access_token.get_secret_value(),
        "refresh_token": tokens.refresh_token.get_secret_value(),
        "expires_at": tokens.expires_at,
        "lifetime_s": tokens.lifetime_s,
    }
    return orjson.dumps(content).decode()


def tokens_from_json(text: str) -> Tokens:
    """Return the tokens of a text that was sealed."""
    content = orjson.loads(text)
    return Tokens(
        SecretStr(content["access_token"]),
        SecretStr(content["refresh_token"]),
        int(content["expires_at"]),
        int(content.get("lifetime_s", DEFAULT_LIFETIME_S)),
    )
