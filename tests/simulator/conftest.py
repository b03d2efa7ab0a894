"""A simulator with its default configuration, a caller of its API, and a target for its deliveries."""

from collections.abc import AsyncIterator

import pytest

from spokes.simulator.app import Simulator
from tests.support.hubspot.probe import Caller, TargetProbe


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def call(sim: Simulator) -> AsyncIterator[Caller]:
    async with Caller(sim.url) as caller:
        yield caller


@pytest.fixture
async def target() -> AsyncIterator[TargetProbe]:
    async with TargetProbe() as probe:
        yield probe
