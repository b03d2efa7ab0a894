"""Split a JSON array into the bytes of its elements without parsing them, and read one damaged element.

A parser rejects a whole body for one element that it cannot read. The spans are found by counting brackets outside of
texts, in one pass over the body, whatever the elements contain. Pure.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

# An object without nested values, such as most events; a text, also one that does not end; or a character that opens,
# closes or separates values. Possessive: no byte is read more than a few times, whatever the body.
_TEXT: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+'
_TOKEN: Final = re.compile(
    rb'\{[^][{}"]*+(?:' + _TEXT + rb'"[^][{}"]*+)*+\}|' + _TEXT + rb'(?:"|\\?\Z)|[][{},]', re.DOTALL
)
_BLANK: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def element_spans(body: bytes) -> Iterator[bytes]:
    """Yield the bytes of each element of a body: an array, or a single object.

    Raises:
        ValueError: the body is neither, or its brackets or texts do not end.
    """
    body = body.removeprefix(_BOM).strip(_BLANK)
    if body[:1] not in {b"[", b"{"}:
        raise ValueError("neither array nor object")
    is_array = body.startswith(b"[")
    depth, start = 0, 1
    for token in _TOKEN.finditer(body):
        match body[token.start()]:
            case 0x7B if token.end() > token.start() + 1:  # a flat object
                if not depth:
                    break
            case 0x5B | 0x7B:  # [ {
                depth += 1
            case 0x5D | 0x7D:  # ] }
                depth -= 1
                if not depth:
                    break
            case 0x2C if depth == 1 and is_array:
                yield body[start : token.start()].strip(_BLANK)
                start = token.end()
    else:
        raise ValueError("no end")
    if token.end() != len(body):
        raise ValueError("more than one value")
    if not is_array:
        yield body
    elif (last := body[start : token.start()].strip(_BLANK)) or start > 1:
        yield last


def read_element(span: bytes) -> Any:
    """Return the value of one element; lone surrogates and bytes that are no UTF-8 become U+FFFD.

    Raises:
        ValueError: it is not JSON, or has a number that JSON does not (NaN, Infinity, 1e400).
        RecursionError: it is nested too deep.
    """
    try:
        return orjson.loads(span)
    except orjson.JSONDecodeError:
        # Python's parser takes lone surrogates and control characters; what it read is written and read again, so that
        # nothing passes that the strict parser would not read from the queue.
        text = json.dumps(json.loads(span.decode(errors="replace"), strict=False), ensure_ascii=False)
        return orjson.loads(_LONE_SURROGATE.sub("\ufffd", text))
