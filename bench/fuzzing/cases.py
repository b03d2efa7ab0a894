"""Cases of valid and hostile traffic. Pure: a case depends only on a seed, a number and the time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bench.fuzzing.bodies import forged_body, odd_body
from bench.fuzzing.http_oddities import chunked_badly, content_length, encoded, expect, headers, host, paths, target
from bench.fuzzing.parts import Case, CaseBuilder, ConnectionEnd, encode_request
from bench.lib import traffic


def good(make: CaseBuilder) -> Case:
    """A valid request as HubSpot sends it."""
    body, objects = make.good_body(100)
    return Case("good", (traffic.request(body, make.now_ms),), connection_end=ConnectionEnd.KEEP, admitted=objects)


def redelivered(make: CaseBuilder) -> Case:
    """A valid request sent twice on one connection."""
    body, objects = make.good_body()
    return Case(
        "redelivered",
        (traffic.request(body, make.now_ms) * 2,),
        responses=2,
        connection_end=ConnectionEnd.KEEP,
        admitted=objects,
    )


def slow(make: CaseBuilder) -> Case:
    """A valid request in small pieces."""
    body, objects = make.good_body()
    whole = traffic.request(body, make.now_ms)
    step = make.rng.choice([len(whole) // 2, len(whole) // 4, 150])
    pieces = tuple(whole[start : start + step] for start in range(0, len(whole), step))
    return Case("slow", pieces, pause_s=0.01, connection_end=ConnectionEnd.KEEP, admitted=objects)


def pipelined(make: CaseBuilder) -> Case:
    """Many valid requests at once on one connection."""
    pairs = [make.good_body() for _ in range(make.rng.randint(2, 30))]
    whole = b"".join(traffic.request(body, make.now_ms) for body, _ in pairs)
    admitted = frozenset[int]().union(*(objects for _, objects in pairs))
    return Case("pipelined", (whole,), responses=len(pairs), connection_end=ConnectionEnd.KEEP, admitted=admitted)


def chunked_well(make: CaseBuilder) -> Case:
    """A valid request with a chunked body."""
    body, objects = make.good_body(30)
    headers = make.signed_headers(body) | {b"Transfer-Encoding": b"chunked"}
    del headers[b"Content-Length"]
    step = make.rng.choice([1 + len(body) // 50, 1000, len(body)])
    chunks = [body[start : start + step] for start in range(0, len(body), step)]
    text = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return Case("chunked well", (encode_request(headers, text),), connection_end=ConnectionEnd.KEEP, admitted=objects)


def signed_body(make: CaseBuilder) -> Case:
    """A signed request with an odd body."""
    body = odd_body(make.rng)
    return Case("signed body", (encode_request(make.signed_headers(body), body),), connection_end=ConnectionEnd.KEEP)


def forged(make: CaseBuilder) -> Case:
    """A valid body with a wrong signature."""
    body = forged_body(make.rng)
    headers = make.signed_headers(body + b" ") | {b"Content-Length": b"%d" % len(body)}
    if make.rng.random() < 0.3:
        stale = make.now_ms + make.rng.choice([-400_000, 400_000, -(10**12)])
        signature = traffic.signature(body, stale)
        headers |= {b"X-HubSpot-Request-Timestamp": b"%d" % stale, b"X-HubSpot-Signature-v3": signature}
    if make.rng.random() < 0.3:
        headers[b"X-HubSpot-Signature-v3"] = (
            make.header_noise(1_000).replace(b"\x00", b"").replace(b"\n", b"").replace(b"\r", b"")
        )
    return Case("forged", (encode_request(headers, body),))


def garbage(make: CaseBuilder) -> Case:
    """Bytes that are not valid HTTP."""
    rng = make.rng
    whole = bytearray(good(make).pieces[0])
    for _ in range(rng.randint(1, 30)):
        whole[rng.randrange(min(len(whole), 600))] = rng.randrange(256)
    starts = [
        bytes(whole),
        rng.randbytes(rng.randint(1, 3_000)),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n" * 500,
    ]
    starts += [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x00" * 100,
        b"SSH-2.0-x\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ]
    return Case("garbage", (rng.choice(starts),), responses=0, connection_end=ConnectionEnd.EOF)


def half_sent(make: CaseBuilder) -> Case:
    """An incomplete request."""
    whole = good(make).pieces[0]
    ends = make.rng.choice([ConnectionEnd.EOF, ConnectionEnd.RESET])
    return Case("half-sent", (whole[: make.rng.randrange(1, len(whole))],), responses=0, connection_end=ends)


def reset(make: CaseBuilder) -> Case:
    """Valid requests whose sender resets the connection at once."""
    return replace(pipelined(make), kind="reset", responses=0, connection_end=ConnectionEnd.RESET, admitted=frozenset())


_KINDS: Final[dict[Callable[[CaseBuilder], Case], int]] = {
    good: 14, redelivered: 3, slow: 1, pipelined: 3, chunked_well: 3, chunked_badly: 6, content_length: 6, headers: 12,
    encoded: 2, expect: 3, host: 3, target: 10, paths: 8, signed_body: 16, forged: 6, garbage: 5, half_sent: 4,
    reset: 3,
}  # fmt: skip


def build_case(seed: int, number: int, now_ms: int) -> Case:
    """Return case `number` of a seed; only `now_ms` (epoch ms) differs from run to run."""
    make = CaseBuilder(seed, number, now_ms)
    return make.rng.choices(list(_KINDS), list(_KINDS.values()))[0](make)
