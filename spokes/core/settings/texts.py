"""Parse the settings that are texts, lists or secrets; each function returns the value or raises with a sentence."""

import re
from typing import Final

from spokes.core.settings.strength import check_strength

_MODULE: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_VERSION: Final = re.compile(r"v3|\d{4}-\d{2}(?:-beta)?", re.ASCII)
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_EVENT_TYPE: Final = re.compile(r"[+-]?[\w-]+\.\w+(?::\w+)?", re.ASCII)
_DOMAIN: Final = re.compile(r"[^\s@/:]+\.[^\s@/:]+")
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,100}", re.ASCII)
_SCOPE: Final = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,16}", re.ASCII)
_PATH: Final = re.compile(r"[^~].*")
_TOKEN: Final = re.compile(r"[!-~]+")
_HOST: Final = re.compile(r"[\w.:%-]{1,253}", re.ASCII)
_SHORTEST_SECRET: Final = 8  # characters; shorter than any that HubSpot issues, and guessable
_SHORTEST_CONSOLE_KEY: Final = 32  # characters


def split_list(text: str) -> tuple[str, ...]:
    """Turn "a, b" into ("a", "b").

    Raises:
        ValueError: with a sentence, if there are commas only: an empty list often means "all".
    """
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise ValueError("holds commas only: write what belongs between them, or remove it")
    return parts


def parse_portal_ids(text: str) -> tuple[str, ...]:
    """Return ids of HubSpot accounts."""
    sentence = "must be whole numbers separated by commas, such as 50112233,60445566"
    return tuple(_checked(_NUMBER, part, sentence) for part in split_list(text))


def parse_data_dir(text: str) -> str:
    """Return the path of a folder."""
    return _checked(_PATH, text, "begins with ~, which only a shell replaces: write the whole path")


def parse_client_secrets(text: str) -> tuple[str, ...]:
    """Return the client secrets, newest first.

    Raises:
        ValueError: with a sentence.
    """
    parts = split_list(text)
    for part in parts:
        if part.lower().startswith("pat-"):
            raise ValueError(
                "is an access token (pat-...); HubSpot signs with the app's client secret, found on its Auth page"
            )
        _check_copied(part, "client secret")
    return parts


def parse_access_token(text: str) -> str:
    """Return the access token.

    Raises:
        ValueError: with a sentence.
    """
    _check_copied(text, "access token")
    return text


def _check_copied(text: str, kind: str) -> None:
    if any(character.isspace() or character in "\"'" for character in text):
        raise ValueError(f"contains a blank or a quotation mark, which no {kind} does; copy only the secret")
    if not (text.isascii() and text.isprintable()):
        raise ValueError(f"holds a character that no {kind} has: copy it again")
    if len(text) < _SHORTEST_SECRET:
        raise ValueError(f"is too short to be a HubSpot {kind}: copy it from the Auth page of your HubSpot app")


def check_console_key(text: str) -> str:
    """Refuse a key that is short enough to guess.

    Raises:
        ValueError: with a sentence.
    """
    if len(text) < _SHORTEST_CONSOLE_KEY:
        raise ValueError("needs at least 32 characters; `openssl rand -hex 32` prints a suitable one")
    return text


def parse_grants(text: str) -> tuple[tuple[str, str], ...]:
    """Turn "ops=operator, ada@example.com=admin" into pairs of claim value and role.

    Raises:
        ValueError: with a sentence.
    """
    pairs = [part.rpartition("=") for part in split_list(text)]
    if not all(value.strip() and separator for value, separator, _ in pairs):
        raise ValueError("must be pairs such as ops-team=operator,ada@example.com=admin")
    return tuple((value.strip(), role.strip()) for value, _, role in pairs)


def _checked(pattern: re.Pattern[str], text: str, sentence: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(sentence)
    return text


def parse_package(text: str) -> str:
    """Return the name of a Python package."""
    return _checked(_MODULE, text, "must be the name of a Python package, such as my_handlers")


def parse_api_version(text: str) -> str:
    """Return a version of HubSpot's API."""
    return _checked(_VERSION, text, "must be a version such as 2026-09, or v3")


def parse_country(text: str) -> str:
    """Return the code of a country whose phone numbers are known."""
    _checked(_COUNTRY, text, "must be a country code of two capital letters, such as US")
    from phonenumbers import SUPPORTED_REGIONS  # noqa: PLC0415 - a process with the default saves its megabytes

    if text not in SUPPORTED_REGIONS:
        raise ValueError("is the code of no country: write its ISO code, such as US, or GB for the United Kingdom")
    return text


def parse_metrics_token(text: str) -> str:
    """Return a token that a header can carry and that is too long to guess.

    Raises:
        ValueError: with a sentence.
    """
    _checked(_TOKEN, text, "is sent in a header, as `Authorization: Bearer ...`: write letters and digits, no blanks")
    return check_strength(text)


def parse_host(text: str) -> str:
    """Return an address to listen on."""
    return _checked(_HOST, text, "must be an address of this machine, such as 0.0.0.0 or 127.0.0.1")


def parse_event_types(text: str) -> tuple[str, ...]:
    """Return the entries of ALLOWED_EVENTS."""
    sentence = "must be event types such as contact.creation, -deal.merge or contact.propertyChange:city"
    return tuple(_checked(_EVENT_TYPE, part, sentence) for part in split_list(text))


def parse_domains(text: str) -> tuple[str, ...]:
    """Return mail domains."""
    return tuple(
        _checked(_DOMAIN, part, "must be domains such as example.com, separated by commas") for part in split_list(text)
    )


def parse_client_id(text: str) -> str:
    """Return the client id of a HubSpot app."""
    return _checked(
        _CLIENT_ID, text, "must be the client id on the Auth page of your HubSpot app: letters, digits and hyphens"
    )


def parse_scopes(text: str) -> tuple[str, ...]:
    """Return HubSpot scopes, separated by commas or blanks; each occurs once."""
    sentence = "must be scopes such as crm.objects.deals.read,tickets, separated by commas"
    parts = [word for part in split_list(text) for word in part.split()]
    return tuple(dict.fromkeys(_checked(_SCOPE, part, sentence) for part in parts))
