"""What cases of hostile traffic are made of. Rule: pure; seed and number make a case, so each can be played again."""

import random
from dataclasses import dataclass
from enum import Enum

from lib import traffic


class End(Enum):
    """What happens to the connection once the answers are there."""

    KEEP = "it is used for the next case"
    RESET = "it is reset"
    EOF = "our side is closed right after sending; the server has to follow"


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes to send in pieces, and what is owed for them."""

    kind: str
    pieces: tuple[bytes, ...]
    answers: int = 1  # that are owed, unless the server closes the connection
    pause_s: float = 0.0  # between the pieces
    end: End = End.RESET
    admitted: frozenset[int] = frozenset()  # objects that have to be queued; then every answer has to be 202


class Maker:
    """Makes the parts of one case."""

    def __init__(self, seed: int, number: int, now_ms: int) -> None:
        self.rng = random.Random(f"{seed}:{number}")
        self.now_ms = now_ms
        self._number = number * 1_000  # of the first event; a case has fewer than a thousand

    def good(self, most: int = 5) -> tuple[bytes, frozenset[int]]:
        """Return a good body and the objects it has admitted."""
        first, count = self._number, self.rng.randint(1, most)
        self._number += count
        body = traffic.body(first, count, self.now_ms)
        return body, frozenset(traffic.admitted_objects(first, first + count))

    def signed(self, body: bytes) -> dict[bytes, bytes]:
        """Return the headers of a signed request."""
        return {
            b"Host": b"hooks.example.com",
            b"Content-Type": b"application/json",
            b"X-HubSpot-Request-Timestamp": b"%d" % self.now_ms,
            b"X-HubSpot-Signature-v3": traffic.signature(body, self.now_ms),
            b"Content-Length": b"%d" % len(body),
        }

    def noise(self, size: int) -> bytes:
        """Return bytes that no header may hold, or that every header may."""
        ways = (
            b"x" * size,
            self.rng.randbytes(min(size, 200)),
            "ünïcödé".encode(),
            "ä".encode("latin-1"),
            b"\x00",
            b"",
        )
        return self.rng.choice(ways)


def wire(
    headers: dict[bytes, bytes], body: bytes = b"", *, line: bytes = b"POST " + traffic.PATH.encode() + b" HTTP/1.1"
) -> bytes:
    """Return a request's bytes."""
    return b"\r\n".join([line, *(name + b": " + value for name, value in headers.items()), b"", body])
