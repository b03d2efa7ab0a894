"""Every command of `spokes`, every option and every Make target that a document shows exists."""

import re
from pathlib import Path

import pytest

from spokes.console.cli import COMMANDS
from tests.support.deployment import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "monitoring" / "README.md"]
LOADED = {command.name: command.load() for command in COMMANDS}
GLOBAL_OPTIONS = {"-h", "--help", "--version", "--install-completion"}
CODE = re.compile(r"```.*?\n(.*?)```|`([^`\n]+)`", re.DOTALL)
SPOKES = re.compile(
    r"(?:^|(?<!from)(?<!SETUSER)[\s;=])(?:python -m |bin/)?spokes ((?:[a-z][a-z|-]*|--?[a-z])[^\n#;>]*)", re.MULTILINE
)


def shown_commands(page: Path) -> list[list[str]]:
    """Return the words after `spokes` of each command in the page's code; `list|show` is two commands."""
    code = "\n".join(block or line for block, line in CODE.findall(page.read_text()))
    words = [match.split() for match in SPOKES.findall(code.replace("\\\n", " "))]
    return [
        [first, *([second] if second else []), *found[2:]]
        for found in words
        for first in found[0].split("|")
        for second in (found[1].split("|") if len(found) > 1 else [""])
    ]


def fault(words: list[str]) -> str:
    """Return what does not exist of a command, or the empty text."""
    name, *rest = words
    if name.startswith("-"):
        return "" if name in GLOBAL_OPTIONS else name
    if name not in LOADED:
        return name
    command, subcommands = LOADED[name], getattr(LOADED[name], "commands", {})
    while rest and subcommands and re.fullmatch("[a-z][a-z-]+", rest[0]):
        name = f"{name} {rest.pop(0)}"
        if name.rpartition(" ")[2] not in subcommands:
            return name
        command = subcommands[name.rpartition(" ")[2]]
        subcommands = getattr(command, "commands", {})
    parameters = [parameter for each in (command, *subcommands.values()) for parameter in each.params]
    known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    options = [option[0] for word in rest if (option := re.match("--[a-z-]+", word))]
    return " ".join([name, *unknown]) if (unknown := set(options) - known - GLOBAL_OPTIONS) else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(page: Path) -> None:
    if page.name != "CHANGELOG.md":  # it names what earlier versions had
        assert [found for words in shown_commands(page) if (found := fault(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(block or line for block, line in CODE.findall(page.read_text()))
    assert set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", code, re.MULTILINE)) <= targets


def test_misspelt_command_and_option_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Run `spokes users remove`, `spokes audit query --sinze 1d` or:\n```sh\nspokes audit qery\n```\n")
    assert [fault(words) for words in shown_commands(page)] == ["users", "audit query --sinze", "audit qery"]
