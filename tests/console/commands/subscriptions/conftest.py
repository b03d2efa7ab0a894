"""An audit store, and the simulated app whose subscriptions the commands change."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.simulator.app import Simulator
from tests.console.commands.subscriptions.push_app import App
from tests.support.command_line import spokes
from tests.support.console_visitor import audit_store


@pytest.fixture
async def store(environ: dict[str, str], redis: Redis) -> AsyncIterator[AsyncEngine]:
    async with audit_store(environ) as engine:
        assert (await asyncio.to_thread(spokes, environ, "migrate")).returncode == 0
        yield engine


@pytest.fixture
async def app(
    hubspot: Simulator, environ: dict[str, str], store: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> App:
    monkeypatch.chdir(tmp_path)
    app = App(hubspot, environ, tmp_path)
    app.register("contact.creation", "deal.propertyChange:amount")
    return app
