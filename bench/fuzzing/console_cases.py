"""Malformed requests for the console and its API. Pure: seed and number determine a request."""

import gzip
import random
from collections.abc import Sequence
from urllib.parse import quote

BOUNDARY = b"x-boundary"
TEXTS = (
    b"", b"\xff\xfe", b"\x80", "ünïcödé".encode(), "ä".encode("latin-1"), b"[", b"http://[", b"https://[::1", b"null",
    b"://", b"%", b"%00", b"%ff%fe", b"\xed\xa0\x80", b"a" * 5_000, b"0" * 400, b"-1", b"1e999", b"\t", b"'\"><script>",
    b"../../etc/passwd", b"${x}", b"{{7*7}}", b"=?utf-8?b?////?=", b";;;===;;", b"=", b"a=b; a=c; =; ;", b"*/*;q=x",
)  # fmt: skip
CONTENT_TYPES = (
    b"application/x-www-form-urlencoded", b"application/x-www-form-urlencoded; charset=utf-8",
    b"application/x-www-form-urlencoded; charset=unheard-of", b"application/x-www-form-urlencoded; charset=utf-16",
    b"application/x-www-form-urlencoded; charset=idna", b"application/x-www-form-urlencoded; charset=hex",
    b"multipart/form-data", b"multipart/form-data; boundary=" + BOUNDARY, b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=" + b"y" * 100, b"multipart/mixed; boundary=" + BOUNDARY,
    b"application/json", b"application/json; charset=utf-16", b'application/json; charset="', b"text/plain", b"/", b";",
)  # fmt: skip
ENCODINGS = (b"identity", b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip", b"unheard-of")
FORWARDED = (b"1.2.3.4", b"unknown", b"1.2.3.4, x", b"::1%eth0", b"", b"[::1]:9")
NAMES = (
    b"Origin", b"Host", b"Cookie", b"Authorization", b"Referer", b"User-Agent", b"Accept", b"Accept-Language",
    b"Content-Type", b"Content-Encoding", b"X-CSRF-Token", b"X-Request-Id", b"Sec-Fetch-Site", b"If-None-Match",
    b"If-Modified-Since", b"Range", b"Access-Control-Request-Method", b"X-Forwarded-For", b"Transfer-Encoding-X",
)  # fmt: skip
SCHEMES = (b"Bearer ", b"bearer\t", b"Basic ", b"", b"Bearer eyJhbGciOiJub25lIn0.e30.", b"Bearer a.b.c")


def console_request(
    seed: int, number: int, routes: Sequence[tuple[str, str]], credentials: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """Return a request whose connection closes after the response.

    Args:
        routes: methods and paths with parameters in braces.
        credentials: headers of an account, sent with the request; some are changed.
    """
    rng = random.Random(f"console:{seed}:{number}")
    method, path = rng.choice(routes)
    if rng.random() < 0.1:
        method = rng.choice(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "FOO"])
    headers = dict([(b"Host", b"localhost"), (b"Sec-Fetch-Site", b"same-origin"), *credentials])
    if method == "POST" or rng.random() < 0.1:
        headers[b"Content-Type"] = rng.choice(CONTENT_TYPES)
    for name in rng.sample(NAMES, rng.randint(0, 3)):
        headers[name] = _header_value(rng, name)
    if rng.random() < 0.3:
        del headers[b"Sec-Fetch-Site"]
        headers[b"Origin"] = rng.choice([b"http://localhost", *TEXTS])
    body = _body(rng) if method == "POST" or rng.random() < 0.1 else b""
    target = _target(rng, path)
    lines = [f"{method} ".encode() + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers.items())]
    lines += [b"Content-Length: %d" % len(body), b"Connection: close", b"", b""]
    return b"\r\n".join(lines) + body


def _header_value(rng: random.Random, name: bytes) -> bytes:
    if name == b"Content-Type":
        return rng.choice(CONTENT_TYPES)
    if name == b"Content-Encoding":
        return rng.choice(ENCODINGS)
    if name == b"X-Forwarded-For":
        return rng.choice(FORWARDED)
    text = rng.choice([*TEXTS, rng.randbytes(20).replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")])
    return rng.choice(SCHEMES) + text if name == b"Authorization" else text


def _target(rng: random.Random, path: str) -> bytes:
    """Return the path with values for its parameters and a query."""
    target = b""
    for part in path.split("/")[1:]:
        value = rng.choice([b"7", b"7", b"a.b", *TEXTS]) if part.startswith("{") else part.encode()
        target += b"/" + (quote(value, safe="%[]").encode() if part.startswith("{") else value)
    if rng.random() < 0.6:
        names = ("q", "after", "limit", "since", "until", "portal_id", "object", "handler", "cause", "format", "action")
        pairs = (
            rng.choice(names).encode() + b"=" + quote(rng.choice(TEXTS)[:500], safe="%").encode()
            for _ in range(rng.randint(1, 3))
        )
        target += b"?" + b"&".join(pairs)
    return target


def _body(rng: random.Random) -> bytes:
    text = rng.choice(TEXTS)
    part = (
        b"--"
        + BOUNDARY
        + b'\r\nContent-Disposition: form-data; name="reason"'
        + rng.choice(
            [
                b"",
                b'; filename="x"',
                b"\r\nContent-Type: text/plain; charset=unheard-of",
                b"\r\nContent-Encoding: gzip",
                b"\r\nContent-Transfer-Encoding: base64",
                b"\r\nContent-Length: 9999",
                b"; name*=utf-8''%ff",
            ]
        )
        + b"\r\n\r\n"
        + text
        + b"\r\n"
    )
    return rng.choice([
        b"",
        b"name=ada&password=" + quote(text).encode() + b"&reason=" + text,
        b"reason=%ff%fe&letter=7:" + text + b"&all=" + text,
        text,
        rng.randbytes(200),
        gzip.compress(b"reason=x" * 1_000),
        gzip.compress(b"reason=x")[:-6],
        part, part + b"--" + BOUNDARY + b"--\r\n", b"--" + BOUNDARY, part * 50, part[:40],
        b'{"reason": "x", "portal_id": 7}', b'{"reason": "\\ud800"}', b'{"reason": "\\u0000"}', b'{"reason": ["x"]}',
        b"[" * 5_000, b'{"reason": "x", "keys": ["' + b"a" * 300 + b'"]}', b'{"reason": "' + text + b'"}',
        b'{"all": true, "reason": 1e400}', b"\xef\xbb\xbf{}", b'{"portal_id": 99999999999999999999, "reason": "x"}',
    ])  # fmt: skip
