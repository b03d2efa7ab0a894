"""A worker process whose handlers each need one kind of call."""

import pytest

from spokes.simulator.app import Simulator
from tests.support.processes.running_processes import RunningProcesses


@pytest.fixture
def worker(environ: dict[str, str], hubspot: Simulator, processes: RunningProcesses) -> None:
    """A worker that retries soon, so that failures in a row take seconds."""
    more = {
        "HUBSPOT_API_URL": hubspot.url, "DATABASE_URL": "postgres://127.0.0.1:1/none",
        "HANDLERS": "tests.support.handlers.one_call_each", "RETRY_SCHEDULE_S": "1,1,1,1,1,1,1,1",
    }  # fmt: skip
    processes.start("workers", {**environ, **more})
