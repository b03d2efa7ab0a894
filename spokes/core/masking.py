"""Mask secrets and personal data by field name, pattern and known secret; derive keys and keyed hashes.

Text that only might be personal is masked too.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Final

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
    re.compile(r"(?<![\w.-])(?P<personal>\+\d[\d ()-]{6,}\d)"),  # international phone number
)


class Mask:
    """Masks text and structured log fields, and `secrets` anywhere in them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, so that a secret that contains another is masked completely.
        self._secrets = sorted({s for s in secrets if s}, key=len, reverse=True)
        self._markers = (*self._secrets, *_PATTERN_MARKERS)

    def text(self, text: str) -> str:
        """Return `text` with known secrets and anything that looks personal replaced by `***`."""
        for marker in self._markers:
            if marker in text:
                break
        else:
            return text
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        for pattern in _PATTERNS:
            text = pattern.sub(_mask_personal, text)
        return text

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


def _mask_personal(match: re.Match[str]) -> str:
    return match[0] if match["personal"] is None else MASK


def derive_key(master: str, purpose: str) -> bytes:
    """Return a 32-byte key for one purpose, so that no two uses of the master key share a key."""
    return hmac.digest(master.encode(), purpose.encode(), "sha256")


def keyed_hash(key: bytes, text: str) -> str:
    """Return 32 hex digits. Without the key they reveal only whether two values are equal."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), key=key, digest_size=16).hexdigest()
