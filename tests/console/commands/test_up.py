"""`up`: the whole deployment in one terminal, and commands in another terminal."""

import http.client
import json
import os
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.command_line import spokes_process, start_spokes


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Return the first line of the output that contains the text; the last line seen after 40 s."""
    assert process.stdout is not None
    deadline = time.monotonic() + 40
    line = ""
    while time.monotonic() < deadline and text not in (line := process.stdout.readline()):
        pass
    return line


def submit_login_link(link: str) -> tuple[int, str]:
    """Submit the form of a login link; return the response's status and cookie."""
    url = urlsplit(link)
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    connection.request("POST", url.path, headers={"Sec-Fetch-Site": "same-origin"})
    response = connection.getresponse()
    connection.close()
    return response.status, response.headers.get("Set-Cookie", "")


@pytest.mark.timeout(240)  # a dozen processes one after the other
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
        ignored = spokes_process(data, "send", "contact.unheard_of")
    finally:
        up.terminate()
        up.communicate(timeout=40)
    assert [status for status, _ in logins] == [303, 401]  # the link works once
    assert logins[0][1].startswith("__Host-spokes=")
    response, outcome = (json.loads(line) for line in sent.stdout.splitlines())
    assert (sent.returncode, response["status"], response["admitted"]) == (0, 202, 1)
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


def test_second_up_in_the_same_data_dir_is_refused(tmp_path: Path) -> None:
    environ = {**os.environ, "DATA_DIR": str(tmp_path), "PORT": "0"}
    for name in ("REDIS_URL", "HUBSPOT_ACCESS_TOKEN"):
        environ.pop(name, None)
    first = start_spokes(environ, "up", "--workers", "0")
    try:
        wait_for_line(first, "Ready")
        second = spokes_process(environ, "up")
        assert (second.returncode, "already running" in second.stderr) == (2, True)
    finally:
        first.terminate()
        first.communicate(timeout=40)
    assert first.returncode == 0
