"""Invalid settings end every command with a sentence for each, exit code 2, and no traceback."""

from subprocess import CompletedProcess
from typing import Final

import pytest

from tests.console.commands.test_commands import ALL
from tests.support.command_line import CompletedCommand, spokes, spokes_process

INVALID: Final = {
    "PORT": "many",
    "REDIS_URL": "127.0.0.1:6379",
    "DATABASE_URL": "mysql://h/d",
    "SENTRY_DSN": "none",
    "METRICS_TOKEN": "x",
}
ARGUMENTS: Final = {
    "timeline": ("contact", "51"),
    "send": ("contact.creation",),
    "dead show": ("1:2",),
    "dead replay": ("--yes", "--reason", "a test"),
    "dead discard": ("--yes", "--reason", "a test", "1:2"),
    "pause": ("50112233", "--reason", "a test"),
    "resume": ("50112233",),
    "login-link": ("ada",),
    "user add": ("ada", "--role", "viewer", "--no-password"),
    "privacy erase": ("51", "--yes"),
    "privacy export": ("51",),
    "token mint": ("--role", "viewer", "--name", "robot"),
}
PROCESSES: Final = ("journal", "web", "worker")  # the command becomes another process, which reads the settings
WITHOUT_SETTINGS: Final = {
    "explain-signature",
    *PROCESSES,
}


@pytest.mark.parametrize("name", [name for name in ALL if name not in WITHOUT_SETTINGS])
def test_command_reports_all_invalid_settings(name: str) -> None:
    assert_reports_all(spokes(INVALID, *name.split(), *ARGUMENTS.get(name, ())))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_process_reports_all_invalid_settings(name: str) -> None:
    assert_reports_all(spokes_process(INVALID, name))


def assert_reports_all(done: CompletedCommand | CompletedProcess[str]) -> None:
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    if "Usage:" not in done.stderr:  # it needs an argument more
        named = {line.split()[0] for line in done.stderr.splitlines() if line.split()[0] in INVALID}
        assert named == set(INVALID)
