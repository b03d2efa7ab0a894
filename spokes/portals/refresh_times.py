"""When the access token of a portal is refreshed. Pure.

A refresh begins ahead of the expiry, at a moment that differs by portal and token: tokens that were issued together are
not refreshed together. Only shortly before the expiry does a caller wait for the refresh.
"""

import hashlib
from enum import Enum, unique
from typing import Final

_AHEAD_SHARES: Final = (0.15, 0.35)  # of the lifetime that is left when the refresh begins, last and first moment
_UNUSABLE_SHARE: Final = 0.05  # of the lifetime: a token so near its expiry may expire on the way
_UNUSABLE_MS: Final = 10_000  # the same at most


@unique
class TokenAge(Enum):
    """What may be done with an access token."""

    FRESH = "fresh"
    AGEING = "ageing"  # it works; refresh it beside its use
    EXPIRED = "expired"  # refresh it before its use


def token_age(portal_id: int, generation: int, *, expires_at: int, lifetime_s: int, now_ms: int) -> TokenAge:
    """Return the age of a token that lives `lifetime_s` and expires at `expires_at` (epoch ms)."""
    lifetime_ms = lifetime_s * 1000
    left_ms = expires_at - now_ms
    if left_ms <= min(_UNUSABLE_MS, lifetime_ms * _UNUSABLE_SHARE):
        return TokenAge.EXPIRED
    last, first = _AHEAD_SHARES
    ahead = last + (first - last) * _fraction(portal_id, generation)
    return TokenAge.AGEING if left_ms <= lifetime_ms * ahead else TokenAge.FRESH


def backoff_s(failures: int, requested_s: float, jitter: float) -> float:
    """Return the wait after this many failed refreshes in a row; at least what HubSpot asks for.

    `jitter` is between 0 and 1.
    """
    wait_s = min(60.0, 2.0 ** min(failures, 10))
    return max(requested_s, wait_s * (0.5 + jitter / 2)) + (requested_s * jitter / 10)


def _fraction(portal_id: int, generation: int) -> float:
    """Return a number between 0 and 1 that is the same in every process and looks random."""
    digest = hashlib.blake2b(f"{portal_id}:{generation}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32
