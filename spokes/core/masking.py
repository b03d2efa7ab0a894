"""Mask secrets and personal data by field name, pattern and known secret; derive keys and keyed hashes.

Text that only might be personal is masked too.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from weakref import WeakSet

MASK: Final = "***"

# Names of fields that hold personal data or credentials, at any depth of a log line.
_MASKED_FIELDS: Final = frozenset(
    {
        "propertyvalue", "property_value", "properties", "value", "values", "body", "headers", "payload", "args",
        "authorization", "cookie", "token", "access_token", "secret", "client_secret", "signature", "password",
        "email", "phone", "mobilephone", "firstname", "lastname", "address",
    }
)  # fmt: skip
# Text that matches a pattern contains one of these. Most text has none; this check costs a tenth of the patterns.
_PATTERN_MARKERS: Final = ("@", "+", "pat-", "PAT-", "Pat-", "earer", "EARER", "eyJ")
# Each pattern takes time linear in the text, which may be a stranger's: it consumes a whole run of characters at once,
# whether or not the run is followed by what makes it personal. Only a match with the named group is masked.
_PATTERNS: Final = (
    re.compile(r"[\w.+-]++(?P<personal>@[\w-]++(?:\.[\w-]++)+)?"),  # e-mail
    re.compile(r"\b(?P<personal>(?:pat|PAT|Pat)-[a-zA-Z]{2}\d?-[0-9a-fA-F-]{8,})"),  # HubSpot's tokens and keys
    re.compile(r"\b(?P<personal>(?:Bearer|bearer|BEARER)\s++\S++)"),
    re.compile(r"\beyJ[\w-]++(?P<personal>\.[\w-]++\.[\w-]*+)?"),  # JSON web token
    re.compile(r"(?<=://)[^/@\s]*+(?P<personal>(?=@))?"),  # user and password of a URL
    re.compile(r"(?<![\w.-])(?P<personal>\+\d[\d ()./\u00a0\u2010-\u2015\u202f-]{6,}\d)"),  # international phone number
)
# National phone numbers, whose digits are grouped: 202-555-0147, (202) 555 0147, 020 7946 0958, 06 12 34 56 78.
# Digits in one group may be an id and are not masked. Each quantifier is bounded, so the time is linear in the text.
_SEPARATOR: Final = r"[ ./\u00a0\u2010-\u2015\u202f-]"
_PHONE: Final = re.compile(
    rf"(?<![\w.+/-])(?:1{_SEPARATOR}{{0,2}})?(?:\(\d{{2,5}}\){_SEPARATOR}{{0,3}}|\d{{2,5}}{_SEPARATOR}{{1,3}})"
    rf"\d{{3,4}}{_SEPARATOR}{{0,3}}\d{{3,4}}(?![\w-]|\.\d)"
    rf"|\(\d{{2,5}}\){_SEPARATOR}{{0,3}}\d{{3,4}}{_SEPARATOR}{{0,3}}\d{{3,4}}(?![\w-]|\.\d)"
    rf"|(?<![\w.+:/-])0(?:\d(?:{_SEPARATOR}\d\d){{4}}|\d{{1,4}}[ /-]\d{{5,8}})(?![\w-]|\.\d)"
)
# What such a number looks like with all digits as 0 and all separators but the full stop as a dash. Finding substrings
# costs a tenth of the pattern, and log lines are many.
_PHONE_SHAPES: Final = (b"000-0000", b"000.0000", b"00-00-00-00", b"00.00.00.00", b"00-00000", b"000---", b"--0000000")
_TO_SHAPE: Final = bytes.maketrans(b"0123456789 ()/", b"0000000000----")


class Mask:
    """Masks text and structured log fields, and `secrets` anywhere in them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self._markers: tuple[str, ...] = _PATTERN_MARKERS
        self._learn({*secrets, *_added_secrets})
        _masks.add(self)

    def _learn(self, secrets: Iterable[str]) -> None:
        """Mask these secrets from now on, as they are and as JSON escapes them."""
        texts = {text for secret in secrets if secret for text in (secret, *_json_forms(secret))}
        # Longest first, so that a secret that contains another is masked completely.
        self._secrets = sorted({*self._secrets, *texts}, key=len, reverse=True)
        self._markers = (*self._secrets, *_PATTERN_MARKERS)

    def text(self, text: str) -> str:
        """Return `text` with known secrets and anything that looks personal replaced by `***`."""
        for marker in self._markers:
            if marker in text:
                break
        else:
            return _mask_phones(text)
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        for pattern in _PATTERNS:
            text = pattern.sub(_mask_personal, text)
        return _mask_phones(text)

    def fields(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Return `fields`, values of sensitive names replaced and all other text masked, at any depth."""
        return {key: MASK if key.lower() in _MASKED_FIELDS else self._value(value) for key, value in fields.items()}

    def _value(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self.fields({str(k): v for k, v in value.items()})
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))


_masks: Final[WeakSet[Mask]] = WeakSet()
_added_secrets: Final[set[str]] = set()


def add_secrets(secrets: Iterable[str]) -> None:
    """Let every mask of this process, also those that exist already, mask these secrets."""
    added = set(secrets) - _added_secrets
    _added_secrets.update(added)
    for mask in list(_masks) if added else ():
        mask._learn(added)  # noqa: SLF001 - of this module


def _json_forms(secret: str) -> tuple[str, str]:
    """Return a secret as it appears within JSON, with ASCII alone and with any character."""
    return json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]


def _mask_personal(match: re.Match[str]) -> str:
    return match[0] if match["personal"] is None else MASK


def _mask_phones(text: str) -> str:
    """Return `text` with national phone numbers masked; only the lines of the shape of one are searched."""
    return "\n".join([_mask_phones_of_line(line) if _may_contain_phone(line) else line for line in text.split("\n")])


def _mask_phones_of_line(line: str) -> str:
    """Return a line with phone numbers masked. No number contains a quotation mark, or depends on what is beyond it."""
    return '"'.join([_PHONE.sub(MASK, part) if _may_contain_phone(part) else part for part in line.split('"')])


def _may_contain_phone(text: str) -> bool:
    """Return whether text contains anything of the shape of a national phone number."""
    if not text.isascii():
        return True
    shape = text.encode().translate(_TO_SHAPE)
    if b"00" not in shape:  # as in most names; each shape has it
        return False
    for part in _PHONE_SHAPES:  # noqa: SIM110 - `any` costs three times as much
        if part in shape:
            return True
    return False


def derive_key(master: str, purpose: str) -> bytes:
    """Return a 32-byte key for one purpose, so that no two uses of the master key share a key."""
    return hmac.digest(master.encode(), purpose.encode(), "sha256")


def keyed_hash(key: bytes, text: str) -> str:
    """Return 32 hex digits. Without the key they reveal only whether two values are equal."""
    return hash_with(key_state(key), text.encode(errors="surrogatepass"))


def key_state(key: bytes) -> "hashlib.blake2b":
    """Return the state from which `hash_with` starts: setting up a key costs as much as hashing a short text."""
    return hashlib.blake2b(key=key, digest_size=16)


def hash_with(state: "hashlib.blake2b", data: bytes) -> str:
    """Return the `keyed_hash` of bytes."""
    digest = state.copy()
    digest.update(data)
    return digest.hexdigest()
