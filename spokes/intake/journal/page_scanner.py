"""`PageScanner`: split a page of the journal into the bytes of its entries while it arrives.

A page is an object with the array `journalEvents`; an array alone counts as a page too. The scanner holds no more than
one chunk and one entry, whatever the size of the page. Entries are not parsed: a damaged one never affects the others.
"""

import re
from typing import Final

from spokes.intake.journal.entries import read_time

_BLANK: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
_PLAIN: Final = rb'[^][{}"]*+'
_TEXT: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT: Final = _PLAIN + rb"(?:" + _TEXT + _PLAIN + rb")*+"
# An object with one more level of values, as nearly all entries are. Possessive: no byte is read more than a few times.
_ENTRY: Final = re.compile(rb"\{" + _FLAT + rb"(?:[\[{]" + _FLAT + rb"[\]}]" + _FLAT + rb")*+\}", re.DOTALL)
_TOKEN: Final = re.compile(_TEXT + rb'|"|[][{},]', re.DOTALL)  # a quote alone begins a text that has not ended yet
_ARRAY: Final = re.compile(rb"\s*:\s*\[")
_MEMBER: Final = b'"journalEvents"'
_PUBLISHED_AT: Final = re.compile(rb'"publishedAt"\s*:\s*("(?P<text>[^"\\]*)"|(?P<number>\d+))')
_MAX_HEAD_BYTES: Final = 1024 * 1024  # before the entries, and behind them
_MAX_ENTRY_BYTES: Final = 8 * 1024 * 1024  # a whole page of HubSpot's has at most 5 MB


class UnreadablePage(ValueError):
    """The content is no page of entries, or ends within one."""


class PageScanner:
    """Splits one page; `feed` it every chunk, then `finish`."""

    def __init__(self) -> None:
        self.published_at: int | None = None  # epoch ms; known when the page has ended, if it says so
        self._rest = b""
        self._is_in_array = False
        self._has_ended = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the entries that are complete with this chunk, in order.

        Raises:
            UnreadablePage: this cannot be a page.
        """
        self._rest += chunk
        if self._has_ended:
            self._rest = self._rest[:_MAX_HEAD_BYTES]
            return []
        if not self._is_in_array and not self._enter_array():
            return []
        return self._take_entries()

    def finish(self) -> None:
        """Check that the page has ended; its `published_at` is known now.

        Raises:
            UnreadablePage: it has not, or it has no array of entries.
        """
        if not self._has_ended:
            raise UnreadablePage("the page does not end")
        self._read_published_at(self._rest)

    def _read_published_at(self, text: bytes) -> None:
        if self.published_at is None and (match := _PUBLISHED_AT.search(text)):
            self.published_at = read_time((match["text"] or match["number"]).decode(errors="replace"))

    def _enter_array(self) -> bool:
        """Drop everything up to the first entry; return whether the array has begun."""
        text = self._rest.removeprefix(_BOM)
        if text.lstrip(_BLANK)[:1] == b"[":
            self._rest, self._is_in_array = text.lstrip(_BLANK)[1:], True
            return True
        depth = 0
        for token in _TOKEN.finditer(text):
            match token[0]:
                case b"{" | b"[":
                    depth += 1
                case b"}" | b"]":
                    depth -= 1
                    if depth <= 0:
                        raise UnreadablePage("the page has no entries")
                case name if name == _MEMBER and depth == 1 and (array := _ARRAY.match(text, token.end())):
                    self._read_published_at(text[: token.start()])
                    self._rest, self._is_in_array = text[array.end() :], True
                    return True
        if len(text) > _MAX_HEAD_BYTES or (text.strip(_BLANK) and not text.lstrip(_BLANK).startswith(b"{")):
            raise UnreadablePage("the content is no page")
        return False

    def _take_entries(self) -> list[bytes]:
        text, position = self._rest, 0
        entries: list[bytes] = []
        while True:
            position = _skip_blank(text, position)
            if text[position : position + 1] == b"]":
                self._has_ended, self._rest = True, text[position + 1 :]
                return entries
            end = _entry_end(text, position)
            if end is None:
                break
            if entry := text[position:end].strip(_BLANK):
                entries.append(entry)
            position = _skip_blank(text, end)
            if text[position : position + 1] == b",":
                position += 1
        self._rest = text[position:]
        if len(self._rest) > _MAX_ENTRY_BYTES:
            raise UnreadablePage("an entry does not end")
        return entries


def _skip_blank(text: bytes, position: int) -> int:
    while text[position : position + 1].isspace():
        position += 1
    return position


def _entry_end(text: bytes, position: int) -> int | None:
    """Return where the entry at a position ends, None if `text` ends before it is complete."""
    usual = _ENTRY.match(text, position)
    if usual is not None and text[usual.end() : usual.end() + 1] in {b",", b"]"}:
        return usual.end()
    depth = 0
    for token in _TOKEN.finditer(text, position):
        match token[0]:
            case b'"':
                return None
            case b"{" | b"[":
                depth += 1
            case b"]" if not depth:
                return token.start()
            case b"}" | b"]":
                depth -= 1
            case b"," if not depth:
                return token.start()
    return None
