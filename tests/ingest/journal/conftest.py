"""A journal at the simulator, and a reader of it in this process that is stepped by the test."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from ingest.journal.client import JournalClient
from ingest.journal.page_intake import PageIntake
from ingest.journal.reader import JournalReader
from spokes.core.settings import Settings
from spokes.intake.backpressure import Backpressure
from spokes.intake.event_source import EventSource
from spokes.simulator.app import Simulator
from spokes.simulator.config import JournalConfig, PortalConfig, SimulatorConfig
from tests.support.deployment import SECRET, TOKEN

REGISTRATIONS = ("contact.creation", "contact.propertyChange:phone")


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    config = SimulatorConfig(
        portals=(PortalConfig(token=TOKEN),), client_secret=SECRET, journal=JournalConfig(max_entries=10, linger_s=0.0)
    )
    async with Simulator(config) as running:
        yield running


@pytest.fixture
def journal_settings(environ: dict[str, str], sim: Simulator) -> Settings:
    return Settings.from_env(
        {
            **environ,
            "HUBSPOT_API_URL": sim.url,
            "HUBSPOT_CLIENT_ID": sim.config.oauth.client_id,
            "DEDUPE_HOURS": "96",
            "SECRETS_KEY": "s" * 32,
        }
    )  # fmt: skip


class SteppedReader:
    """A reader whose steps a test takes; `waits` are the seconds that it would have slept."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._source = EventSource.from_settings("journal", redis, settings, REGISTRATIONS)
        self._client = JournalClient(settings)
        self.backpressure = Backpressure(redis, settings)
        self.pages = PageIntake(redis, self._source, self.backpressure)
        self.reader = JournalReader(redis, self._client, self.pages)
        self.waits: list[float] = []

    async def step(self) -> float:
        await self.reader.renew_lease()
        self.waits.append(await self.reader.step())
        return self.waits[-1]

    async def read_all(self) -> None:
        """Step until nothing is new."""
        while not await self.step():
            pass

    async def close(self) -> None:
        await self._client.close()
        await self._source.close()


@pytest.fixture
async def reader(journal_settings: Settings, redis: Redis) -> AsyncIterator[SteppedReader]:
    stepped = SteppedReader(journal_settings, redis)
    yield stepped
    await stepped.close()


@pytest.fixture
async def second_reader(journal_settings: Settings, redis: Redis) -> AsyncIterator[SteppedReader]:
    stepped = SteppedReader(journal_settings, redis)
    yield stepped
    await stepped.close()
