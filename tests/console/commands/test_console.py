"""The console's commands beside the audit's: dead letters, handlers, up."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from spokes.audit.archiver import Archiver
from spokes.audit.records import AuditRecord, Outcome, event_fields
from spokes.audit.sql.engine import open_engine
from spokes.audit.stream import append
from spokes.core.delivery import JOB_QUEUE, Entry
from spokes.core.settings import Settings
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from tests.support.command_line import spokes
from tests.support.deployment import KEY, ROOT
from tests.support.events import bury, event, recorded


@pytest.fixture
async def letters(redis: Redis) -> list[DeadLetter]:
    """Two dead letters of different causes."""
    made = [
        DeadLetter(7, "7-1-1", Entry(key, 1, event(number, portalId=7)), reason, "contacts.keep_reachable", number)
        for number, (key, reason) in enumerate([("aa", "object_not_found"), ("bb", "not_permitted")], start=1)
    ]
    await bury(redis, *made)
    return made


async def test_dead_letters_are_listed_newest_first(environ: dict[str, str], letters: list[DeadLetter]) -> None:
    lines = spokes(environ, "dead", "list", "--json").stdout.splitlines()
    assert [json.loads(line)["event_key"] for line in lines] == ["bb", "aa"]


async def test_dead_letters_are_chosen_by_cause(environ: dict[str, str], letters: list[DeadLetter]) -> None:
    lines = spokes(environ, "dead", "list", "--json", "--cause", "not_permitted").stdout.splitlines()
    assert [json.loads(line)["event_key"] for line in lines] == ["bb"]


async def test_dead_letter_shows_names_and_no_values(environ: dict[str, str], redis: Redis) -> None:
    change = {"subscriptionType": "contact.propertyChange", "propertyName": "phone", "propertyValue": "canary"}
    letter = DeadLetter(7, "7-1-1", Entry("cc", 1, event(**change)), "not_permitted", "", 1)
    await bury(redis, letter)
    shown = spokes(environ, "dead", "show", "cc", "--json").stdout
    assert ('"phone"' in shown, "canary" in shown) == (True, False)


async def test_dead_letter_shows_its_whole_history(
    environ: dict[str, str], redis: Redis, letters: list[DeadLetter]
) -> None:
    """A try that failed, earlier replays with their reasons: archived or still in the stream, the oldest first."""
    raw = letters[0].entry.event
    failed = event_fields(raw, Outcome.RETRIED, key="aa", delivery_id="7-1-1", attempt=1, reason="rate_limited")
    async with redis.pipeline() as pipeline:
        append(pipeline, AuditRecord(**failed))
        await pipeline.execute()
    assert spokes(environ, "migrate").returncode == 0
    engine = open_engine(Settings.from_env(environ).database_address)
    await Archiver(redis, engine, KEY).drain()
    await engine.dispose()
    await DeadLetters(redis).replay(letters[:1], actor="ann", reason="HubSpot was slow")
    await bury(redis, letters[0])  # it died again
    shown = json.loads(spokes(environ, "dead", "show", "aa", "--json").stdout)
    assert [(told["outcome"], told["actor"], told["reason"]) for told in shown["history"]] == [
        ("retried", "spokes", "rate_limited"),
        ("replayed", "ann", "HubSpot was slow"),
    ]
    assert "Replayed: queued again by ann: HubSpot was slow" in spokes(environ, "dead", "show", "aa").stdout


async def test_replay_queues_the_chosen_and_leaves_the_others(
    environ: dict[str, str], redis: Redis, letters: list[DeadLetter]
) -> None:
    done = spokes(environ, "dead", "replay", "--cause", "not_permitted", "--reason", "scope granted", "--yes")
    left = [letter.entry.key async for letter in DeadLetters(redis).list(7)]
    assert (done.returncode, await redis.zcard(JOB_QUEUE), left) == (0, 1, ["aa"])


async def test_discard_asks_first(environ: dict[str, str], redis: Redis, letters: list[DeadLetter]) -> None:
    done = spokes(environ, "dead", "discard", "aa", "--reason", "gone")  # nobody answers
    left = [letter.entry.key async for letter in DeadLetters(redis).list(7)]
    assert (done.returncode != 0, left) == (True, ["bb", "aa"])


async def test_nothing_chosen_is_said(environ: dict[str, str], redis: Redis) -> None:
    done = spokes(environ, "dead", "replay", "--reason", "x", "--yes")
    assert (done.returncode, done.stderr) == (1, "There is no such dead letter.\n")


def test_unreachable_redis_is_a_sentence(environ: dict[str, str]) -> None:
    done = spokes({**environ, "REDIS_URL": "redis://127.0.0.1:1"}, "dead", "list")
    assert (done.returncode, "Traceback" in done.stderr, "Redis does not answer" in done.stderr) == (2, False, True)


def test_handlers_show_what_the_deployment_does(environ: dict[str, str]) -> None:
    shown = spokes(environ, "handlers").stdout
    assert "contacts.keep_reachable" in shown
    assert "contact.creation" in shown


def test_second_up_on_the_same_data_is_refused_in_a_sentence(tmp_path: Path) -> None:
    environ = {**os.environ, "DATA_DIR": str(tmp_path), "PORT": "0"}
    for name in ("REDIS_URL", "HUBSPOT_ACCESS_TOKEN"):
        environ.pop(name, None)
    first = subprocess.Popen(
        [sys.executable, "-m", "spokes", "up", "--workers", "0"],
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    try:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and not first.stdout.readline().startswith("Ready"):
            pass
        second = subprocess.run(
            [sys.executable, "-m", "spokes", "up"],
            cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert (second.returncode, "already running" in second.stderr) == (2, True)
    finally:
        first.terminate()
        first.communicate(timeout=40)
    assert first.returncode == 0


async def test_pause_and_resume_are_recorded(environ: dict[str, str], redis: Redis) -> None:
    assert spokes(environ, "pause", "7", "--reason", "import by hand").returncode == 0
    assert spokes(environ, "resume", "7").returncode == 0
    told = [record.action for record in await recorded(redis) if record.actor != "spokes"]
    assert told == ["portal.paused", "portal.resumed"]
