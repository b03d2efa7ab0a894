"""Requests that are malformed or unusual HTTP, usually with one oddity each. Pure."""

import gzip
from typing import Final

from bench.fuzzing.bodies import forged_body, odd_body
from bench.fuzzing.parts import Case, CaseBuilder, ConnectionEnd, encode_request
from bench.lib import traffic

_METHODS: Final = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "PURGE",
    "post",
    "X",
)
_PATHS: Final = (traffic.PATH, "/healthz", "/readyz", "/metrics", "/", "/nowhere", traffic.PATH + "/", "/webhooks")
_LONG: Final = (8_100, 8_200, 20_000, 70_000, 300_000)
_BOMB: Final = gzip.compress(b" " * 20_000_000)


def chunked_badly(make: CaseBuilder) -> Case:
    """Chunks that are malformed, too long, or never end."""
    body = odd_body(make.rng)
    headers = make.signed_headers(body) | {
        b"Transfer-Encoding": make.rng.choice([b"chunked"] * 9 + [b"gzip, chunked", b"x"])
    }
    if make.rng.random() < 0.8:
        del headers[b"Content-Length"]
    size = make.rng.choice([b"zz", b"-1", b"", b"f" * 17, b"7fffffffffffffff", b"5;" + b"e" * 20_000, b"5 ", b"0x5"])
    text = make.rng.choice(
        [size + b"\r\n" + body, b"5\r\nabcdefgh\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"0\r\nX: y\r\n" * 3, b"5\r\nab"]
    )
    if make.rng.random() < 0.5:
        return Case("chunked badly", (encode_request(headers), text), pause_s=0.01)
    return Case("chunked badly", (encode_request(headers, text),))


def content_length(make: CaseBuilder) -> Case:
    """A Content-Length that is not a number or not the body's length."""
    body, _ = make.good_body()
    length = make.rng.choice(
        [b"-1", b"+5", b"0x10", b"1e3", b"", b" ", b"5, 5", b"99999999999999999999", b"10485761",
         b"9223372036854775807", b"%d" % (len(body) + 5), b"%d" % (len(body) - 5), b"0", b"\xb2", b"1_0"]
    )  # fmt: skip
    return Case("length", (encode_request(make.signed_headers(body) | {b"Content-Length": length}, body),))


def headers(make: CaseBuilder) -> Case:
    """A header that is missing, repeated, too long, folded or random."""
    body, _ = make.good_body()
    rng, headers = make.rng, make.signed_headers(body)
    name = rng.choice(sorted(headers))
    kind = rng.randrange(7)
    if kind == 0:
        del headers[name]
    elif kind == 1:
        headers[name] = make.header_noise(rng.choice(_LONG))
    elif kind == 2:
        headers[name.lower() if rng.random() < 0.5 else name.upper() + b" "] = rng.choice([headers[name], b"x"])
    elif kind == 3:
        headers[rng.choice([b"X" * rng.choice(_LONG), b"", b" X", b"X\x00", b"\xff", b"X(", b"Sec WebSocket"])] = b"1"
    elif kind == 4:
        headers |= {b"X-%d" % number: b"y" for number in range(rng.choice([50, 127, 128, 1_000]))}
    elif kind == 5:
        headers[name] = headers[name] + rng.choice(
            [b"\r\n folded", b"\rX: y", b"\nX: y", b"\x0b", b"\x7f", b"\r\n\r\n"]
        )
    else:
        odd = [
            b"Upgrade",
            b"Connection",
            b"Expect",
            b"Content-Encoding",
            b"Content-Type",
            b"Cookie",
            b"X-Forwarded-For",
        ]
        values = [
            b"websocket",
            b"upgrade",
            b"keep-alive, close",
            b"100-continue",
            b"200-ok",
            b"br",
            b"text/xml",
            b";;=,",
        ]
        headers |= {rng.choice(odd): rng.choice(values), rng.choice(odd): make.header_noise(1_000)}
    return Case("headers", (encode_request(headers, body),))


def encoded(make: CaseBuilder) -> Case:
    """A body with a Content-Encoding, correct or not."""
    body, _ = make.good_body()
    packed = make.rng.choice([gzip.compress(body), _BOMB, b"no gzip", gzip.compress(body)[:20]])
    signed = make.signed_headers(packed) | {
        b"Content-Encoding": make.rng.choice([b"gzip", b"deflate", b"br", b"zstd", b"x"])
    }
    return Case("encoded", (encode_request(signed, packed),))


def expect(make: CaseBuilder) -> Case:
    """An Expect header, known or unknown."""
    body, _ = make.good_body()
    headers = make.signed_headers(body) | {
        b"Expect": make.rng.choice([b"100-continue", b"100-Continue", b"x", b"", b"\xff"])
    }
    return Case("expect", (encode_request(headers), body), pause_s=0.01)


def host(make: CaseBuilder) -> Case:
    """An invalid Host header."""
    body, _ = make.good_body()
    odd = [
        b"",
        b"a b",
        b"[::1",
        b"[::1]:99999",
        b"x:-1",
        b"\xff",
        b"@",
        b"evil/..",
        b"http://x",
        b"x" * 5_000,
        b"a,b",
        b"%00",
    ]
    line = make.rng.choice([b"POST /webhooks/hubspot HTTP/1.1", b"GET /healthz HTTP/1.1", b"GET /readyz HTTP/1.0"])
    return Case("host", (encode_request(make.signed_headers(body) | {b"Host": make.rng.choice(odd)}, body, line=line),))


def target(make: CaseBuilder) -> Case:
    """A request target that is invalid, or that a careless router could take for ours."""
    body, _ = make.good_body()
    odd = [
        b"//", b"//evil.example/", b"/..", b"/webhooks/../webhooks/hubspot", b"/webhooks//hubspot", b"/%2e%2e/", b"/%",
        b"/%zz", b"/%ff%fe", b"/webhooks%2Fhubspot", b"/webhooks/hubspot%00", b"/webhooks/hubspot?%", b"?", b"*", b"#",
        b"/webhooks/hubspot?a=%ff&b=%", b"/webhooks/hubspot#x", b"http://[", b"http://x:99999/", b"http://hooks/healthz",
        b"https://user:pw@x/webhooks/hubspot", b"x", b"", b"/\xc3\xa4", b"/\xff", b"/a b", b"/\x00",
        b"/" + b"a/" * 4_000, b"/webhooks/hubspot?" + b"q" * 8_000, b"/" + b"x" * 70_000, b"mailto:a@b",
        b"/healthz;a=b", b"\\", b"/metrics?name[]=x",
    ]  # fmt: skip
    method = make.rng.choice([b"POST", b"GET", b"OPTIONS", b"CONNECT", b"HEAD"])
    version = make.rng.choice([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"http/1.1", b""])
    line = b" ".join([method, make.rng.choice(odd), version])
    return Case("target", (encode_request(make.signed_headers(body), body, line=line),))


def paths(make: CaseBuilder) -> Case:
    """A random method on a random path."""
    rng = make.rng
    body = forged_body(rng) if rng.random() < 0.5 else b""
    line = f"{rng.choice(_METHODS)} {rng.choice(_PATHS)} HTTP/1.1".encode()
    return Case(
        "paths",
        (encode_request({b"Host": b"x", b"Content-Length": b"%d" % len(body)}, body, line=line),),
        connection_end=ConnectionEnd.KEEP,
    )
