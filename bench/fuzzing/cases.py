"""What comes to the door of a receiver on the open network. Rule: pure; `case` is made of a seed and a number alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from fuzzing.bodies import forged_body, odd_body
from fuzzing.http_oddities import chunked_badly, encoded, expect, headers, host, length, paths, target
from fuzzing.parts import Case, End, Maker, wire
from lib import traffic


def good(make: Maker) -> Case:
    """What HubSpot sends."""
    body, objects = make.good(100)
    return Case("good", (traffic.request(body, make.now_ms),), end=End.KEEP, admitted=objects)


def redelivered(make: Maker) -> Case:
    """The same twice on one connection."""
    body, objects = make.good()
    return Case("redelivered", (traffic.request(body, make.now_ms) * 2,), answers=2, end=End.KEEP, admitted=objects)


def slow(make: Maker) -> Case:
    """What HubSpot sends, in small pieces."""
    body, objects = make.good()
    whole = traffic.request(body, make.now_ms)
    step = make.rng.choice([len(whole) // 2, len(whole) // 4, 150])
    pieces = tuple(whole[place : place + step] for place in range(0, len(whole), step))
    return Case("slow", pieces, pause_s=0.01, end=End.KEEP, admitted=objects)


def pipelined(make: Maker) -> Case:
    """Many good requests at once."""
    pairs = [make.good() for _ in range(make.rng.randint(2, 30))]
    whole = b"".join(traffic.request(body, make.now_ms) for body, _ in pairs)
    admitted = frozenset[int]().union(*(objects for _, objects in pairs))
    return Case("pipelined", (whole,), answers=len(pairs), end=End.KEEP, admitted=admitted)


def chunked_well(make: Maker) -> Case:
    """A good body without a length."""
    body, objects = make.good(30)
    headers = make.signed(body) | {b"Transfer-Encoding": b"chunked"}
    del headers[b"Content-Length"]
    step = make.rng.choice([1 + len(body) // 50, 1000, len(body)])
    parts = [body[place : place + step] for place in range(0, len(body), step)]
    text = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return Case("chunked well", (wire(headers, text),), end=End.KEEP, admitted=objects)


def signed_body(make: Maker) -> Case:
    """A signed body that is odd."""
    body = odd_body(make.rng)
    return Case("signed body", (wire(make.signed(body), body),), end=End.KEEP)


def forged(make: Maker) -> Case:
    """A flawless body whose signature is not."""
    body = forged_body(make.rng)
    given = make.signed(body + b" ") | {b"Content-Length": b"%d" % len(body)}
    if make.rng.random() < 0.3:
        stale = make.now_ms + make.rng.choice([-400_000, 400_000, -(10**12)])
        signature = traffic.signature(body, stale)
        given |= {b"X-HubSpot-Request-Timestamp": b"%d" % stale, b"X-HubSpot-Signature-v3": signature}
    if make.rng.random() < 0.3:
        given[b"X-HubSpot-Signature-v3"] = (
            make.noise(1_000).replace(b"\x00", b"").replace(b"\n", b"").replace(b"\r", b"")
        )
    return Case("forged", (wire(given, body),))


def garbage(make: Maker) -> Case:
    """What is not HTTP, or no longer."""
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
    return Case("garbage", (rng.choice(starts),), answers=0, end=End.EOF)


def half_sent(make: Maker) -> Case:
    """A request that ends in the middle."""
    whole = good(make).pieces[0]
    ends = make.rng.choice([End.EOF, End.RESET])
    return Case("half-sent", (whole[: make.rng.randrange(1, len(whole))],), answers=0, end=ends)


def reset(make: Maker) -> Case:
    """Good requests whose sender does not wait."""
    return replace(pipelined(make), kind="reset", answers=0, end=End.RESET, admitted=frozenset())


_KINDS: Final[dict[Callable[[Maker], Case], int]] = {
    good: 14, redelivered: 3, slow: 1, pipelined: 3, chunked_well: 3, chunked_badly: 6, length: 6, headers: 12,
    encoded: 2, expect: 3, host: 3, target: 10, paths: 8, signed_body: 16, forged: 6, garbage: 5, half_sent: 4,
    reset: 3,
}  # fmt: skip


def case(seed: int, number: int, now_ms: int) -> Case:
    """Return case `number` of a seed; `now_ms` (epoch ms) is the only thing in it that changes from run to run."""
    make = Maker(seed, number, now_ms)
    return make.rng.choices(list(_KINDS), list(_KINDS.values()))[0](make)
