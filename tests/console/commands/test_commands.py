"""Conventions that every command follows: help with an example, JSON, documented exit codes, confirmation."""

import inspect
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from spokes.console.cli import COMMANDS, app
from tests.support.command_line import spokes
from tests.support.deployment import KEY

# These run until stopped, or write files, or a document in its own format.
WITHOUT_JSON = {"new", "up", "web", "worker", "journal", "serve", "audit export", "privacy export"}


def leaf_commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command, or the commands of a group, each with its full name."""
    if subcommands := getattr(command, "commands", None):
        for part, subcommand in subcommands.items():
            yield from leaf_commands(subcommand, f"{name} {part}")
    else:
        yield name, command


ALL = dict(pair for spec in COMMANDS for pair in leaf_commands(spec.load(), spec.name))
OPTIONS = {name: {text for parameter in command.params for text in parameter.opts} for name, command in ALL.items()}


@pytest.mark.parametrize("name", ALL)
def test_help_teaches_with_an_example(name: str) -> None:
    help_ = ALL[name].help or ""
    assert f"Example: spokes {name}" in help_ or f" spokes {name}" in help_.partition("Example: ")[2]
    assert len(help_.partition("\n")[0]) > 20


@pytest.mark.parametrize("name", ALL)
def test_every_option_has_a_help_text(name: str) -> None:
    visible = [parameter for parameter in ALL[name].params if not getattr(parameter, "hidden", False)]
    assert [parameter.name for parameter in visible if not getattr(parameter, "help", "")] == []


@pytest.mark.parametrize("name", [name for name in ALL if name not in WITHOUT_JSON])
def test_every_result_is_available_as_json(name: str) -> None:
    assert "--json" in OPTIONS[name]


@pytest.mark.parametrize("name", ALL)
def test_own_exit_codes_are_documented(name: str) -> None:
    function = inspect.unwrap(ALL[name].callback)  # type: ignore[arg-type]  # a command has one
    if "typer.Exit(" in inspect.getsource(function) and name != "up":
        assert "Exit code" in (ALL[name].help or "")


@pytest.mark.parametrize("name", ["dead replay", "dead discard", "privacy erase"])
def test_irreversible_command_can_skip_its_confirmation(name: str) -> None:
    assert "--yes" in OPTIONS[name]


def test_general_exit_codes_are_in_the_help() -> None:
    assert "Exit codes: 0 success" in (app.info.epilog or "")


def test_help_imports_no_command() -> None:
    program = "import sys; from spokes.console.cli import app; app(['--help'], standalone_mode=False)"
    check = f"{program}; sys.exit(any(name in sys.modules for name in ('sqlalchemy', 'spokes.core.settings', 'redis')))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert (done.returncode, "migrate" in done.stdout, "audit" in done.stdout) == (0, True, True)


def test_invalid_setting_is_one_sentence() -> None:
    done = spokes({"AUDIT_KEY": KEY, "PORT": "many"}, "migrate")
    assert (done.returncode, done.stderr.startswith("PORT "), "Traceback" in done.stderr) == (2, True, False)


@pytest.mark.parametrize("arguments", [("pause", "7", "--reason", "\udcff"), ("timeline", "contact", "\ud83d")])
def test_argument_that_is_not_utf8_is_one_sentence(arguments: tuple[str, ...]) -> None:
    done = spokes({"AUDIT_KEY": KEY}, *arguments)
    assert (done.returncode, "not UTF-8" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_missing_reason_without_a_terminal_names_the_option(command: str) -> None:
    done = spokes({"AUDIT_KEY": KEY}, "dead", command, "aa")
    assert (done.returncode, done.stdout, "Add --reason" in done.stderr) == (2, "", True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "0"),
        ("resume", "0"),
        ("dead", "list", "--portal", "-1"),
        ("privacy", "erase", "51", "--yes", "--portal", "0"),
        ("user", "add", "ada", "--role", "viewer", "--no-password", "--portal", "0"),
        ("token", "mint", "--name", "robot", "--role", "viewer", "--portal", "0"),
    ],
)
def test_portal_that_nobody_has_is_refused(arguments: tuple[str, ...]) -> None:
    done = spokes({"AUDIT_KEY": KEY, "CONSOLE_KEY": KEY}, *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "portal" in done.stderr or "No such option" in done.stderr


@pytest.mark.parametrize("command", [("audit", "query"), ("audit", "export"), ("audit", "affected"), ("events",)])
def test_period_that_ends_before_it_begins_is_refused(command: tuple[str, ...]) -> None:
    done = spokes({"AUDIT_KEY": KEY}, *command, "--since", "1h", "--until", "2h")
    assert (done.returncode, "not after --since" in " ".join(done.stderr.split())) == (2, True), done.stderr


def test_token_without_a_name_is_refused() -> None:
    done = spokes({"AUDIT_KEY": KEY, "CONSOLE_KEY": KEY}, "token", "mint", "--name", " ", "--role", "viewer")
    assert (done.returncode, "is empty" in done.stderr) == (2, True)
