"""How many values a JSON text has, counted before it is parsed: small text can ask for much memory. Pure."""

import re
from typing import Final

# A text, also one that does not end; or a character that separates or opens values.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[,\[{]', re.DOTALL)
_QUOTE: Final = ord('"')


def has_more_values(data: bytes, limit: int) -> bool:
    """Return whether JSON has more than about `limit` values; commas and brackets outside of texts are counted."""
    if len(data) <= limit or data.count(b",") + data.count(b"[") + data.count(b"{") <= limit:
        return False
    count = 0
    for token in _TOKEN.finditer(data):
        count += data[token.start()] != _QUOTE
        if count > limit:
            return True
    return False
