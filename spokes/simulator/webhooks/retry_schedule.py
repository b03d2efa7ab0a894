"""When HubSpot tries again. Rule: pure; ten retries fit into 24 hours whatever the dice say.

HubSpot publishes only that: up to ten times over the next 24 hours, with varying, randomised delays.
"""

from random import Random
from typing import Final

_FIRST_S: Final = 60.0
_GROWTH: Final = 2.0
_SPREAD: Final = 0.3  # each delay is up to this share shorter or longer


def retry_delay_s(retry: int, rng: Random) -> float:
    """Seconds of HubSpot's time before retry number `retry`, counted from 1."""
    return _FIRST_S * _GROWTH ** (retry - 1) * rng.uniform(1 - _SPREAD, 1 + _SPREAD)


def shortest_s(retries: int) -> float:
    """Seconds of HubSpot's time that so many retries take, if every delay is as short as it may be."""
    return sum(_FIRST_S * _GROWTH**retry * (1 - _SPREAD) for retry in range(retries))
