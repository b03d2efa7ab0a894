"""Cached values: age, interval between fetches, failed fetches."""

import pytest

from spokes.console.identity.cached_value import CachedValue
from spokes.console.identity.http_client import provider_unavailable
from spokes.core.errors import HttpProblem


class CountedSource:
    """A value that changes with each fetch, and a clock."""

    def __init__(self) -> None:
        self.now, self.fetches, self.is_down = 0.0, 0, False
        self.cached = CachedValue(self.fetch, fresh_s=600, clock=lambda: self.now)

    async def fetch(self) -> int:
        self.fetches += 1
        if self.is_down:
            raise provider_unavailable()
        return self.fetches * 1000


async def test_cached_value_is_fetched_again_when_it_is_old() -> None:
    source = CountedSource()
    assert [await source.cached.get() for _ in range(3)] == [1000] * 3
    source.now = 601
    assert await source.cached.get() == 2000


async def test_cached_value_is_used_for_an_hour_while_fetches_fail() -> None:
    source = CountedSource()
    await source.cached.get()
    source.is_down, source.now = True, 3500
    assert await source.cached.get() == 1000
    source.now = 3601
    with pytest.raises(HttpProblem):
        await source.cached.get()


async def test_failed_fetch_is_not_repeated_by_every_caller() -> None:
    source = CountedSource()
    source.is_down = True
    for _ in range(10):
        with pytest.raises(HttpProblem):
            await source.cached.get()
    assert source.fetches == 1
    source.is_down, source.now = False, 5
    assert await source.cached.get() == 2000
