"""HubSpot's retry delays. Pure; ten retries always fit into 24 hours.

HubSpot documents only this: up to ten retries over the next 24 hours, with varying, randomised delays.
"""

from random import Random
from typing import Final

_FIRST_S: Final = 60.0
_GROWTH: Final = 2.0
_SPREAD: Final = 0.3  # each delay is up to this share shorter or longer


def retry_delay_s(retry: int, rng: Random) -> float:
    """Return the seconds of HubSpot's time before retry number `retry`, counted from 1."""
    return _FIRST_S * _GROWTH ** (retry - 1) * rng.uniform(1 - _SPREAD, 1 + _SPREAD)


def shortest_s(retries: int) -> float:
    """Return the least time, in seconds of HubSpot's time, that this number of retries takes."""
    return sum(_FIRST_S * _GROWTH**retry * (1 - _SPREAD) for retry in range(retries))
