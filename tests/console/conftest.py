"""Fixtures of the console's tests: a simulated HubSpot and an identity provider."""

from collections.abc import AsyncIterator

import pytest

from tests.support.identity_provider import IdentityProvider


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    """A running identity provider."""
    idp = IdentityProvider()
    async with idp.server:
        yield idp
