"""Fixtures of the console's tests: a simulated HubSpot and an identity provider."""

from collections.abc import AsyncIterator

import pytest

from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig
from tests.support.deployment import TOKEN
from tests.support.identity_provider import IdentityProvider


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    """A running simulator that accepts TOKEN."""
    async with Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))) as simulator:
        yield simulator


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    """A running identity provider."""
    idp = IdentityProvider()
    async with idp.server:
        yield idp
