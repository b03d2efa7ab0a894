"""Building blocks of cases of hostile traffic. Pure: seed and number determine a case, so each can be repeated."""

import random
from dataclasses import dataclass
from enum import Enum

from bench.lib import traffic


class ConnectionEnd(Enum):
    """What happens to the connection after the responses."""

    KEEP = "it is used for the next case"
    RESET = "it is reset"
    EOF = "our side is closed right after sending; the server must close too"


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes to send in pieces, and the expected responses."""

    kind: str
    pieces: tuple[bytes, ...]
    responses: int = 1  # expected, unless the server closes the connection
    pause_s: float = 0.0  # between the pieces
    connection_end: ConnectionEnd = ConnectionEnd.RESET
    admitted: frozenset[int] = frozenset()  # objects that must be queued; then every response must be 202


class CaseBuilder:
    """Builds the parts of one case."""

    def __init__(self, seed: int, number: int, now_ms: int) -> None:
        self.rng = random.Random(f"{seed}:{number}")
        self.now_ms = now_ms
        self._next_event = number * 1_000  # number of the first event; a case has fewer than 1,000 events

    def good_body(self, most: int = 5) -> tuple[bytes, frozenset[int]]:
        """Return a valid body and the objects it must admit."""
        first, count = self._next_event, self.rng.randint(1, most)
        self._next_event += count
        body = traffic.body(first, count, self.now_ms)
        return body, frozenset(traffic.admitted_objects(first, first + count))

    def signed_headers(self, body: bytes) -> dict[bytes, bytes]:
        """Return the headers of a signed request."""
        return {
            b"Host": b"hooks.example.com",
            b"Content-Type": b"application/json",
            b"X-HubSpot-Request-Timestamp": b"%d" % self.now_ms,
            b"X-HubSpot-Signature-v3": traffic.signature(body, self.now_ms),
            b"Content-Length": b"%d" % len(body),
        }

    def header_noise(self, size: int) -> bytes:
        """Return a header value that may be invalid."""
        values = (
            b"x" * size,
            self.rng.randbytes(min(size, 200)),
            "ünïcödé".encode(),
            "ä".encode("latin-1"),
            b"\x00",
            b"",
        )
        return self.rng.choice(values)


def encode_request(
    headers: dict[bytes, bytes], body: bytes = b"", *, line: bytes = b"POST " + traffic.PATH.encode() + b" HTTP/1.1"
) -> bytes:
    """Return a request's bytes."""
    return b"\r\n".join([line, *(name + b": " + value for name, value in headers.items()), b"", body])
