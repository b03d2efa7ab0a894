"""What the tests of whole processes share."""

from collections.abc import Iterator

import pytest

from tests.support.running_processes import RunningProcesses


@pytest.fixture
def processes() -> Iterator[RunningProcesses]:
    """Processes that end with the test."""
    started = RunningProcesses()
    yield started
    started.kill()
