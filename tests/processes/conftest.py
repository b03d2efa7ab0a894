"""What the tests of whole processes share."""

from collections.abc import Iterator

import pytest

from tests.support.processes.installed_wheel import Installation, install_wheel
from tests.support.processes.running_processes import RunningProcesses


@pytest.fixture
def processes() -> Iterator[RunningProcesses]:
    """Processes that end with the test."""
    started = RunningProcesses()
    yield started
    started.kill()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel of this tree in an environment of its own."""
    return install_wheel(tmp_path_factory.mktemp("wheel"))
