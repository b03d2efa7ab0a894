"""Canonical forms of phone numbers, e-mail addresses and domains: one pure, idempotent function for each.

A function returns the text unchanged where the canonical form would lose part of it, such as an extension, and None
where the text is nothing of the kind. Handlers and the check before a write (`validation`) share them.
"""

import re
from functools import lru_cache
from itertools import accumulate
from typing import Final
from urllib.parse import urlsplit

import idna
import phonenumbers
from email_validator import EmailNotValidError, validate_email

# A number in one piece: digits and separators. Every other character may carry meaning: an extension, a pause, a word.
_PLAIN_PHONE: Final = re.compile(
    "(?:tel:)?[\\s\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069]*[+\uff0b]?"
    "[\\d\\s()\\[\\]\uff08\uff09./\u2010-\u2015\u2212\uff0d\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069-]+",
    re.IGNORECASE,
)
# A slash or a dash on its own after which few digits follow separates a number and its extension: 030 123456 / 15.
_SHORT_SECOND_NUMBER: Final = re.compile("(?:/|\\s[-\u2010-\u2015\u2212\uff0d]\\s)\\D*(?:\\d\\D*){0,3}$")
# What may stand between two numbers, or between a number and its extension: "030 123456 (15)", "030 123456 -15".
_UNUSUAL_SEPARATOR: Final = re.compile(
    "/|[(\\[\uff08]|\\s[-\u2010-\u2015\u2212\uff0d]|[-\u2010-\u2015\u2212\uff0d](?:\\s|(?<=[-\u2010-\u2015\u2212\uff0d]{2}))|\\s{2}|[\t\n\r]"
)
_MAX_PHONE_CHARS: Final = 100
# Numbers that were just computed: a handler's is checked again when it is written.
_RECENT_E164: Final[set[str]] = set()
_MAX_RECENT: Final = 4_096
_E164: Final = re.compile(r"\+\d{2,15}", re.ASCII)

_DOMAIN: Final = re.compile(
    r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59})"
)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PUBLIC_SUFFIX: Final = re.compile(r"(?:ac|co|com|edu|gob|gouv|gov|gv|mil|ne|net|or|org)\.[a-z]{2}")


def canonical_phone(text: str, region: str) -> str | None:
    """Return a phone number as `+4930123456`; the text itself if that would lose part of it; None if it is not valid.

    An extension in any spelling, pauses, letters and words next to the number are parts that E.164 has no place for.

    Args:
        region: country of numbers without a +, as ISO 3166 letters: `DE`.
    """
    return text if text in _RECENT_E164 else _canonical_phone(text, region)


@lru_cache(maxsize=_MAX_RECENT)  # a contact's number is read again for each of its events, and parsing takes 30 us
def _canonical_phone(text: str, region: str) -> str | None:
    number = _parse_phone(text, region)
    if number is None:
        return text if _begins_with_phone(text, region) else None
    loses_part = (
        number.extension
        or number.preferred_domestic_carrier_code
        or not _PLAIN_PHONE.fullmatch(text)
        or _SHORT_SECOND_NUMBER.search(text)
        or _has_second_number(text, region)
    )
    if loses_part:
        return text
    canonical = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if len(_RECENT_E164) >= _MAX_RECENT:
        _RECENT_E164.clear()
    _RECENT_E164.add(canonical)
    return canonical


def e164(text: str, region: str) -> str | None:
    """Return a phone number as `+4930123456`; None if it is not valid, or E.164 would lose part of it."""
    number = canonical_phone(text, region)
    return number if number and _E164.fullmatch(number) else None


def canonical_email(text: str) -> str | None:
    """Return an e-mail address as HubSpot stores it, trimmed and in lower case; None if not valid. No DNS lookup.

    The domain stays as it is written, in letters or in punycode. An address whose lower case is another one stays.
    """
    trimmed = text.strip()
    if email_domains(trimmed) is None:
        return None
    lowered = trimmed.lower()
    if trimmed.isascii() or (len(lowered) == len(trimmed) and email_domains(lowered) == email_domains(trimmed)):
        return lowered
    return trimmed


def email_domains(text: str) -> tuple[str, str] | None:
    """Return the domain of an e-mail address in letters and in punycode; None if the address is not valid."""
    if "@" not in text:  # as in an empty property
        return None
    try:
        address = validate_email(text, check_deliverability=False)
    except (EmailNotValidError, ValueError):
        return None
    return address.domain.lower(), address.ascii_domain.lower()


def canonical_domain(text: str) -> str | None:
    """Return the domain of a URL or host, in IDNA, without www. and a trailing dot; None if it is not a single one."""
    trimmed = text.strip()
    has_scheme = bool(_SCHEME.match(trimmed))
    if any(character.isspace() for character in trimmed) or ("@" in trimmed and not has_scheme):
        return None  # a list or a sentence, or an e-mail address
    try:
        host = (urlsplit(trimmed if has_scheme else f"//{trimmed}").hostname or "").rstrip(".")
        name = (host if host.isascii() else idna.encode(host, uts46=True).decode()).lower()
    except (ValueError, idna.IDNAError):
        return None
    while name.startswith("www.") and _is_own_domain(name.removeprefix("www.")):
        name = name.removeprefix("www.")
    return name if _DOMAIN.fullmatch(name) else None


def _is_own_domain(name: str) -> bool:
    """Return whether a name can be an organisation's domain: `www.com` and `www.gov.uk` would be cut too short."""
    return bool(_DOMAIN.fullmatch(name)) and not _PUBLIC_SUFFIX.fullmatch(name)


def _parse_phone(text: str, region: str) -> phonenumbers.PhoneNumber | None:
    try:
        number = phonenumbers.parse(text, region.upper(), keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_valid_number(number) else None


def _has_second_number(text: str, region: str) -> bool:
    """Return whether digits follow a valid number behind an unusual separator."""
    trimmed = text.strip()
    ends = [end for found in _UNUSUAL_SEPARATOR.finditer(trimmed) if (end := found.start())]
    return any(_parse_phone(trimmed[:end], region) for end in ends)


def _begins_with_phone(text: str, region: str) -> bool:
    """Return whether the first groups of digits are a valid number: `+1 202-555-0143 (227)`, `202-555-0143 (home)`."""
    groups = re.findall(r"\D*\d+", text[:_MAX_PHONE_CHARS])
    return any(_parse_phone(prefix, region) for prefix in accumulate(groups))
