"""Every command teaches, speaks JSON, says what its exit codes mean, and asks before it destroys."""

import asyncio
import http.client
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from redis.asyncio import Redis

from spokes.console.cli import COMMANDS, app
from spokes.console.commands.send import build_events
from spokes.console.local.running_stack import save_environment
from spokes.core.settings import Settings
from tests.support.deployment import ROOT, WebProcessServer

DOCUMENTS = {"up", "serve", "audit export", "privacy export"}  # they run, or write a document in a form of its own


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if subcommands := getattr(command, "commands", None):
        for part, one in subcommands.items():
            yield from walk(one, f"{name} {part}")
    else:
        yield name, command


ALL = dict(pair for command in COMMANDS for pair in walk(command.load(), command.name))
options = {name: {text for one in command.params for text in one.opts} for name, command in ALL.items()}


@pytest.mark.parametrize("name", ALL)
def test_help_teaches_with_an_example(name: str) -> None:
    help_ = ALL[name].help or ""
    assert f"Example: spokes {name}" in help_ or f" spokes {name}" in help_.partition("Example: ")[2]
    assert len(help_.partition("\n")[0]) > 20


@pytest.mark.parametrize("name", ALL)
def test_every_option_says_what_it_is_for(name: str) -> None:
    shown = [one for one in ALL[name].params if not getattr(one, "hidden", False)]
    assert [one.name for one in shown if not getattr(one, "help", "")] == []


@pytest.mark.parametrize("name", [name for name in ALL if name not in DOCUMENTS])
def test_every_answer_can_be_had_as_json(name: str) -> None:
    assert "--json" in options[name]


@pytest.mark.parametrize("name", ALL)
def test_exit_codes_of_its_own_are_documented(name: str) -> None:
    function = inspect.unwrap(ALL[name].callback)  # type: ignore[arg-type]  # a command has one
    if "typer.Exit(" in inspect.getsource(function) and name != "up":
        assert "Exit code" in (ALL[name].help or "")


@pytest.mark.parametrize("name", ["dead replay", "dead discard", "privacy erase"])
def test_what_cannot_be_undone_is_asked_about_and_scripts_say_yes(name: str) -> None:
    assert "--yes" in options[name]


def test_general_exit_codes_stand_in_the_help() -> None:
    assert "Exit codes: 0 done" in (app.info.epilog or "")


def spokes(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "spokes", *arguments]
    env = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def enter(link: str) -> tuple[int, str]:
    """Press the button of a login link; return the answer's status and cookie."""
    place = urlsplit(link)
    assert place.hostname is not None
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    connection.request("POST", place.path, headers={"Sec-Fetch-Site": "same-origin"})
    answer = connection.getresponse()
    connection.close()
    return answer.status, answer.headers.get("Set-Cookie", "")


@pytest.mark.timeout(240)  # a dozen processes one after the other
def test_whole_way_beside_a_running_house(tmp_path: Path) -> None:
    """`up` plays HubSpot; another terminal needs no settings to send an event, follow it and look at it."""
    data = {"DATA_DIR": str(tmp_path)}
    house = subprocess.Popen(
        [sys.executable, "-m", "spokes", "up", "--traffic", "0"], cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PORT": "0", **data},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert house.stdout is not None
    try:
        deadline = time.monotonic() + 40
        line = ""
        while time.monotonic() < deadline and "The console:" not in (line := house.stdout.readline()):
            pass
        entered = [enter(line.split()[2]) for _ in range(2)]
        sent = spokes(data, "send", "contact.creation", "--object-id", "51", "--json", "--wait", "30")
        listed = spokes(data, "events", "--object-id", "51", "--json")
        table = spokes(data, "events", "--object-id", "51")
        nothing = spokes(data, "events", "--object-id", "52")
        link = "https://app.hubspot.com/contacts/50112233/record/0-1/51"
        way = spokes(data, "timeline", link, "--json")
        told = spokes(data, "timeline", "contact", "51")
        unknown = spokes(data, "timeline", "53")
        ignored = spokes(data, "send", "contact.unheard_of")
    finally:
        house.terminate()
        house.communicate(timeout=40)
    assert [status for status, _ in entered] == [303, 401]  # the link that `up` prints opens once
    assert entered[0][1].startswith("__Host-spokes=")
    taken, outcome = (json.loads(line) for line in sent.stdout.splitlines())
    assert (sent.returncode, taken["status"], taken["admitted"]) == (0, 202, 1)
    assert (outcome["object_id"], outcome["outcome"], outcome["reason"]) == ("51", "dead", "object_not_found")
    [event] = map(json.loads, listed.stdout.splitlines())
    assert (event["event_id"], event["outcome"]) == (outcome["event_id"], "dead")
    assert ("contact.creation" in table.stdout, table.stderr) == (True, "1 dead.\n")
    records = list(map(json.loads, way.stdout.splitlines()))
    assert [one["action"] for one in records] == ["event", "delivery.received"]
    assert ("Gave up: now a dead letter" in told.stdout, "spokes dead replay" in told.stderr) == (True, True)
    assert (unknown.returncode, "Nothing is known of it" in unknown.stderr) == (1, True)
    assert (nothing.returncode, ignored.returncode) == (1, 0)
    assert "No handler claims what was ignored" in ignored.stderr
    assert not (tmp_path / "up.json").exists()


async def test_refused_event_is_exit_code_1_and_a_sentence(
    settings: Settings, environ: dict[str, str], redis: Redis
) -> None:
    async with WebProcessServer(settings) as server:
        wrong = {**environ, "HUBSPOT_CLIENT_SECRET": "another-secret"}
        sent = ("send", "contact.creation", "--to", str(server.make_url("/")))
        done = await asyncio.to_thread(spokes, wrong, *sent)
    assert (done.returncode, "HUBSPOT_CLIENT_SECRET" in done.stderr) == (1, True)


def test_nobody_there_is_exit_code_2_and_a_sentence(environ: dict[str, str]) -> None:
    done = spokes(environ, "send", "contact.creation", "--to", "http://127.0.0.1:1")
    assert (done.returncode, "Is it running?" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_any_type_and_any_field_can_be_made() -> None:
    fields = ['objectTypeId="0-3"', "changeSource=IMPORT", "isSensitive=true", "sourceId=null"]
    [first, second, *_] = made = build_events(
        "object.propertyChange", 7, ["a=1", "b=x=y"], fields, portal_id=9, count=2
    )
    assert [(one["objectId"], one["propertyName"], one["propertyValue"]) for one in made] == [
        (7, "a", "1"), (7, "b", "x=y"), (8, "a", "1"), (8, "b", "x=y"),
    ]  # fmt: skip
    assert (first["objectTypeId"], first["changeSource"], first["isSensitive"]) == ("0-3", "IMPORT", True)
    assert ("sourceId" in first, first["eventId"] != second["eventId"], first["portalId"]) == (False, True, 9)


def test_what_a_run_made_up_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = save_environment(tmp_path, {"HUBSPOT_CLIENT_SECRET": "made-up-secret"})
    assert path.stat().st_mode & 0o777 == 0o600
