"""`up`: the whole deployment in one terminal, and commands in another terminal."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.command_line import spokes_process, start_spokes
from tests.support.free_ports import free_port

URL = "https://hooks.example.com"


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Return the first line of the output that contains the text; the last line seen after 90 s."""
    assert process.stdout is not None
    deadline = time.monotonic() + 90
    line = ""
    while time.monotonic() < deadline and text not in (line := process.stdout.readline()):
        pass
    return line


def command_lines() -> list[str]:
    """Return the command line of every process of this machine."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            lines.append(path.read_text())
    return lines


def submit_login_link(link: str) -> tuple[int, str]:
    """Submit the form of a login link; return the response's status and cookie."""
    url = urlsplit(link)
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    connection.request("POST", url.path, headers={"Sec-Fetch-Site": "same-origin"})
    response = connection.getresponse()
    connection.close()
    return response.status, response.headers.get("Set-Cookie", "")


@pytest.mark.slow
def test_commands_need_no_settings_while_up_runs(tmp_path: Path) -> None:
    """`up` plays HubSpot; in another terminal an event is sent, listed and followed."""
    data = {"DATA_DIR": str(tmp_path)}
    up = start_spokes({"PORT": "0", **data}, "up", "--traffic", "0")
    try:
        link = wait_for_line(up, "The console:").split()[2]
        logins = [submit_login_link(link) for _ in range(2)]
        sent = spokes_process(data, "send", "contact.creation", "--object-id", "51", "--json", "--wait", "30")
        listed = spokes_process(data, "events", "--object-id", "51", "--json")
        table = spokes_process(data, "events", "--object-id", "51")
        no_events = spokes_process(data, "events", "--object-id", "52")
        url = "https://app.hubspot.com/contacts/50112233/record/0-1/51"
        timeline = spokes_process(data, "timeline", url, "--json")
        timeline_table = spokes_process(data, "timeline", "contact", "51")
        unknown = spokes_process(data, "timeline", "53")
        ignored = spokes_process(data, "send", "deal.deletion")
        existing = spokes_process(data, "send", "contact.creation", "--json", "--wait", "30")
    finally:
        up.terminate()
        output, _ = up.communicate(timeout=90)
    assert "token_scopes" not in output
    assert [status for status, _ in logins] == [303, 401]  # the link works once
    assert logins[0][1].startswith("__Host-spokes=")
    response, outcome = (json.loads(line) for line in sent.stdout.splitlines())
    assert (sent.returncode, response["status"], response["admitted"]) == (1, 202, 1)
    assert "ended as dead letters: `spokes dead show" in sent.stderr
    assert (existing.returncode, json.loads(existing.stdout.splitlines()[1])["outcome"]) == (0, "processed")
    assert (outcome["object_id"], outcome["outcome"], outcome["reason"]) == ("51", "dead", "object_not_found")
    [event] = map(json.loads, listed.stdout.splitlines())
    assert (event["event_id"], event["outcome"]) == (outcome["event_id"], "dead")
    assert ("contact.creation" in table.stdout, table.stderr) == (True, "1 dead.\n")
    records = list(map(json.loads, timeline.stdout.splitlines()))
    assert [record["action"] for record in records] == ["event"] * (len(records) - 1) + ["delivery.received"]
    # The record does not exist: its event is so new that it is looked for a few times first.
    assert [record["outcome"] for record in records[:-1]] == ["dead", *["retried"] * (len(records) - 2)]
    assert "Gave up: now a dead letter" in timeline_table.stdout
    assert "spokes dead replay" in timeline_table.stderr
    assert (unknown.returncode, "Nothing is known about this object" in unknown.stderr) == (1, True)
    assert (no_events.returncode, ignored.returncode) == (1, 0)
    assert "Ignored events have no handler" in ignored.stderr
    assert not (tmp_path / "up.json").exists()


@pytest.mark.slow
def test_up_keeps_files_and_secrets_private_and_is_refused_a_second_time(tmp_path: Path) -> None:
    secret = "7c1e5b90-2f4d-4a86-b3e7-90d1c6a2f854"
    environ = {
        **os.environ,
        "DATA_DIR": str(tmp_path / "data"),
        "PORT": str(free_port()),
        "HUBSPOT_CLIENT_SECRET": secret,
    }
    for name in ("REDIS_URL", "HUBSPOT_ACCESS_TOKEN"):
        environ.pop(name, None)
    umask = os.umask(0)
    try:
        first = start_spokes(environ, "up", "--workers", "0")
    finally:
        os.umask(umask)
    try:
        wait_for_line(first, "Ready")
        second = spokes_process(environ, "up")
        assert (second.returncode, "already running" in second.stderr) == (2, True)
        written = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
        assert {"audit.sqlite", "audit.key", "appendonlydir"} <= {path.name for path in written}
        assert [path for path in written if path.stat().st_mode & 0o077 and not path.is_socket()] == []
        assert [line for line in command_lines() if secret in line] == []
    finally:
        first.terminate()
        first.communicate(timeout=90)
    assert first.returncode == 0


def test_port_of_another_program_is_refused(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = spokes_process({"DATA_DIR": str(tmp_path), "PORT": str(other.getsockname()[1])}, "up")
    assert (done.returncode, done.stderr.startswith("PORT: nothing can listen on port")) == (2, True)
    assert "Traceback" not in done.stderr


def run_in(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command `spokes`, which does not import from the current folder, in `folder`."""
    command = [sys.executable, "-P", "-m", "spokes", *arguments]
    env = {"PATH": os.environ["PATH"], "PORT": "0", "DATA_DIR": str(folder / "data"), **environ}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_fault_of_handlers_is_a_sentence_before_anything_starts(tmp_path: Path) -> None:
    for name in ("core", "redis_cache", "handlers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("import a_package_that_does_not_exist")
    done = run_in(tmp_path, "up", "--workers", "1")
    assert "HANDLERS names 'handlers', whose import raises ModuleNotFoundError" in done.stderr
    assert "handlers/__init__.py:1" in done.stderr
    assert (done.returncode, "Traceback" in done.stderr, (tmp_path / "data").exists()) == (2, False, False)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["up", "web", "worker", "doctor", "handlers"])
def test_package_that_is_called_like_ours_is_a_sentence(command: str, tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    done = run_in(tmp_path, command, HUBSPOT_CLIENT_SECRET="c" * 36, HUBSPOT_ACCESS_TOKEN="t" * 36, PUBLIC_URL=URL)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert done.stderr.startswith("workers: Spokes has a package 'workers' too")


@pytest.mark.slow
def test_web_worker_and_journal_are_the_processes_that_python_runs(tmp_path: Path) -> None:
    missing = {"web": "HUBSPOT_CLIENT_SECRET", "worker": "HUBSPOT_ACCESS_TOKEN", "journal": "HUBSPOT_CLIENT_ID"}
    sentences = [run_in(tmp_path, command) for command in missing]
    assert [done.returncode for done in sentences] == [2, 2, 2]
    assert [done.stderr.partition(" ")[0] for done in sentences] == [*missing.values()]


def test_handlers_of_the_current_folder_are_listed(tmp_path: Path) -> None:
    (tmp_path / "my_handlers.py").write_text(
        "from spokes import Event, Router, Tools, uses\nROUTER = Router()\n"
        "@ROUTER.register('deal.creation')\n@uses()\nasync def mine(event: Event, tools: Tools) -> None: ...\n"
    )
    done = run_in(tmp_path, "handlers", HANDLERS="my_handlers")
    assert (done.returncode, "deal.creation" in done.stdout) == (0, True), done.stderr


def test_handlers_without_router_are_named_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text("router = None")
    done = run_in(tmp_path, "handlers")
    assert (done.returncode, done.stderr.startswith("handlers.py:1: ")) == (2, True)


def test_router_of_another_type_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text("# my handlers\nrouters = []\nROUTER = [*routers]\n")
    done = run_in(tmp_path, "handlers")
    assert (done.returncode, done.stderr.startswith("handlers.py:3: HANDLERS names 'handlers', which has no")) == (
        2,
        True,
    )


def test_handlers_that_exit_while_they_are_imported_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text("import sys\nsys.exit('not today')\n")
    done = run_in(tmp_path, "handlers")
    assert (done.returncode, done.stderr.startswith("handlers.py:2: ")) == (2, True)


def test_package_that_handlers_names_must_exist(tmp_path: Path) -> None:
    done = run_in(tmp_path, "handlers", HANDLERS="my_crm.handlers")
    assert (done.returncode, "'my_crm.handlers', and there is no such package" in done.stderr) == (2, True)


@pytest.mark.slow
def test_up_of_an_app_that_customers_install_calls_the_hubspot_of_its_settings(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "DATA_DIR": str(tmp_path / "data"),
        "PORT": "0",
        "HUBSPOT_CLIENT_ID": "0c3f6d0c-2e8b-4e57-9c34-7a5e2d10b9f8",
        "HUBSPOT_CLIENT_SECRET": "7c1e5b90-2f4d-4a86-b3e7-90d1c6a2f854",
        "HUBSPOT_API_URL": "http://127.0.0.1:1",
        "SECRETS_KEY": "3f6d0c2e8b1a4e579c347a5e2d10b9f8",
    }
    for name in ("REDIS_URL", "HUBSPOT_ACCESS_TOKEN"):
        environ.pop(name, None)
    up = start_spokes(environ, "up")
    try:
        ready = wait_for_line(up, "Ready:")
        assert "The console:" in wait_for_line(up, "The console:")  # printed once the file is written
        saved = json.loads((tmp_path / "data" / "up.json").read_text())
    finally:
        up.terminate()
        output, _ = up.communicate(timeout=90)
    assert ready.startswith("Ready:")
    assert "HUBSPOT_ACCESS_TOKEN" not in saved
    assert "simulator" not in output
