"""What the tests of whole processes share."""

from collections.abc import Iterator

import pytest

from spokes.simulator.app import Simulator
from tests.support.processes.installed_wheel import Installation, install_wheel
from tests.support.processes.running_processes import RunningProcesses
from tests.support.processes.worker_processes import Workers


@pytest.fixture
def processes() -> Iterator[RunningProcesses]:
    """Processes that end with the test."""
    started = RunningProcesses()
    yield started
    started.kill()


@pytest.fixture
def workers(environ: dict[str, str], hubspot: Simulator) -> Iterator[Workers]:
    """Workers without an audit store, that end with the test."""
    unreachable = {"DATABASE_URL": "postgres://127.0.0.1:1/none"}  # records stay in the stream
    started = Workers({**environ, **unreachable, "HUBSPOT_API_URL": hubspot.url})
    yield started
    started.end()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel of this tree in an environment of its own."""
    return install_wheel(tmp_path_factory.mktemp("wheel"))
