"""Fixtures: systems of one's own on the loopback interface."""

from collections.abc import AsyncIterator

import pytest

from tests.workers.http.own_system import OwnSystem, own_system


@pytest.fixture
async def erp() -> AsyncIterator[OwnSystem]:
    async with own_system() as system:
        yield system


@pytest.fixture
async def shop() -> AsyncIterator[OwnSystem]:
    async with own_system() as system:
        yield system
