"""Validate and normalise what is written: phone numbers, e-mail addresses, domains, lengths.

The check before a write puts values into HubSpot's form or refuses them before any call. The reason is the error's
`category`, one of the constants here; the value itself is in no error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import idna
import phonenumbers
from email_validator import EmailNotValidError, validate_email

from spokes.core.errors import InvalidRequest
from spokes.crm.object_types import singular

Value: TypeAlias = str | bool | int | float | datetime | date | None

MAX_VALUE_CHARS: Final = 65_536  # HubSpot's docs, on notes and text properties
_DOMAIN: Final = re.compile(
    r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59})"
)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

EMAIL_INVALID: Final = "EMAIL_INVALID"
EMAIL_DOMAIN_BLOCKED: Final = "EMAIL_DOMAIN_BLOCKED"
PHONE_INVALID: Final = "PHONE_INVALID"

_EMAILS: Final[Mapping[str, frozenset[str]]] = {"contact": frozenset({"email", "work_email"})}
_PHONES: Final[Mapping[str, frozenset[str]]] = {
    "contact": frozenset({"phone", "mobilephone"}),
    "company": frozenset({"phone"}),
}


def e164(text: str, region: str) -> str | None:
    """Return a phone number as `+4930123456`, without its extension; None if it is not valid.

    Args:
        region: country of numbers without a +, as ISO 3166 letters: `DE`.
    """
    try:
        number = phonenumbers.parse(text, region.upper())
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def canonical_email(text: str) -> str | None:
    """Return an e-mail address as HubSpot stores it, trimmed and in lower case; None if not valid. No DNS lookup."""
    try:
        address = validate_email(text.strip(), check_deliverability=False)
    except EmailNotValidError:
        return None
    return address.normalized.lower()


def canonical_domain(text: str) -> str | None:
    """Return the domain of a URL or host, in IDNA, without www. and a trailing dot; None if it is not valid."""
    trimmed = text.strip()
    try:
        host = urlsplit(trimmed if _SCHEME.match(trimmed) else f"//{trimmed}").hostname or ""
        bare = host.rstrip(".").removeprefix("www.")
        name = bare if bare.isascii() else idna.encode(bare, uts46=True).decode()
    except (ValueError, idna.IDNAError):
        return None
    name = name.lower()
    return name if _DOMAIN.fullmatch(name) else None


def property_text(value: Value) -> str:
    """Return a property value as HubSpot takes it: text. None clears it; a timestamp becomes ISO 8601 in UTC.

    Raises:
        InvalidRequest: the value is longer than HubSpot stores.
    """
    text = _text(value)
    if len(text) > MAX_VALUE_CHARS:
        raise InvalidRequest(category="VALUE_TOO_LONG")
    return text


def _text(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case _:
            return str(value)


@dataclass(frozen=True, slots=True)
class ValidationRules:
    """A deployment's rules: blocked domains of e-mail addresses, and the country of numbers without a +.

    `blocked_email_domains` in lower case, subdomains included; `default_region` as ISO 3166 letters: `DE`.
    """

    blocked_email_domains: frozenset[str] = frozenset()
    default_region: str = "US"


def validate_properties(object_type: str, properties: Mapping[str, Value], rules: ValidationRules) -> dict[str, str]:
    """Return properties as HubSpot takes them: text, e-mail addresses in lower case, phone numbers in E.164.

    An empty value clears the property.

    Raises:
        InvalidRequest: `category` is EMAIL_INVALID, EMAIL_DOMAIN_BLOCKED, PHONE_INVALID or VALUE_TOO_LONG.
    """
    type_name = singular(object_type)
    texts = {name: property_text(value) for name, value in properties.items()}
    for name, text in texts.items():
        if not text:
            continue
        if name in _EMAILS.get(type_name, ()):
            texts[name] = _validated_email(text, rules.blocked_email_domains)
        elif name in _PHONES.get(type_name, ()):
            texts[name] = _validated_phone(text, rules.default_region)
    return texts


def _validated_email(text: str, blocked: frozenset[str]) -> str:
    address = canonical_email(text)
    if address is None:
        raise InvalidRequest(category=EMAIL_INVALID)
    labels = address.rpartition("@")[2].split(".")
    if any(".".join(labels[i:]) in blocked for i in range(len(labels))):
        raise InvalidRequest(category=EMAIL_DOMAIN_BLOCKED)
    return address


def _validated_phone(text: str, region: str) -> str:
    number = e164(text, region)
    if number is None:
        raise InvalidRequest(category=PHONE_INVALID)
    return number
