"""`dead`: list, show, replay and discard dead letters."""

import json

import pytest
from redis.asyncio import Redis

from spokes.audit.archiver import Archiver
from spokes.audit.records import AuditRecord, Outcome, event_fields
from spokes.audit.sql.engine import open_engine
from spokes.audit.stream import append
from spokes.core.delivery import Entry
from spokes.core.redis.keys import JOB_QUEUE
from spokes.core.settings import Settings
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from tests.support.command_line import spokes
from tests.support.deployment import KEY
from tests.support.events import event, store_dead_letters


@pytest.fixture
async def letters(redis: Redis) -> list[DeadLetter]:
    """Two dead letters with different reasons."""
    letters = [
        DeadLetter(7, "7-1-1", Entry(key, 1, event(number, portalId=7)), reason, "contacts.keep_reachable", number)
        for number, (key, reason) in enumerate([("aa", "object_not_found"), ("bb", "not_permitted")], start=1)
    ]
    await store_dead_letters(redis, *letters)
    return letters


async def test_dead_letters_are_listed_newest_first(environ: dict[str, str], letters: list[DeadLetter]) -> None:
    lines = spokes(environ, "dead", "list", "--json").stdout.splitlines()
    assert [json.loads(line)["event_key"] for line in lines] == ["bb", "aa"]


async def test_dead_letters_are_selected_by_cause(environ: dict[str, str], letters: list[DeadLetter]) -> None:
    lines = spokes(environ, "dead", "list", "--json", "--cause", "not_permitted").stdout.splitlines()
    assert [json.loads(line)["event_key"] for line in lines] == ["bb"]


async def test_dead_letter_shows_names_and_no_values(environ: dict[str, str], redis: Redis) -> None:
    change = {"subscriptionType": "contact.propertyChange", "propertyName": "phone", "propertyValue": "canary"}
    letter = DeadLetter(7, "7-1-1", Entry("cc", 1, event(**change)), "not_permitted", "", 1)
    await store_dead_letters(redis, letter)
    shown = spokes(environ, "dead", "show", "cc", "--json").stdout
    assert ('"phone"' in shown, "canary" in shown) == (True, False)


FAILURE = {
    "error": "InvalidRequest", "error_at": "my_handlers/x.py:14", "status": 400, "code": "PROPERTY_DOESNT_EXIST",
    "property": "favourite_colour", "correlation_id": "c-1",
}  # fmt: skip


async def test_dead_letter_says_what_failed_and_where(environ: dict[str, str], redis: Redis) -> None:
    await store_dead_letters(redis, DeadLetter(7, "7-1-1", Entry("cc", 1, event(1)), "invalid_request", "", 1, FAILURE))
    assert json.loads(spokes(environ, "dead", "show", "cc", "--json").stdout)["failure"] == FAILURE
    shown = spokes(environ | {"COLUMNS": "300"}, "dead", "show", "cc").stdout
    assert [text for text in map(str, FAILURE.values()) if text not in shown] == []


async def test_dead_letter_shows_its_whole_history(
    environ: dict[str, str], redis: Redis, letters: list[DeadLetter]
) -> None:
    """A failed attempt and an earlier replay with its reason, archived or still in the stream, oldest first."""
    failed = event_fields(
        letters[0].entry.event, Outcome.RETRIED, key="aa", delivery_id="7-1-1", attempt=1, reason="rate_limited"
    )
    async with redis.pipeline() as pipeline:
        append(pipeline, AuditRecord(**failed))
        await pipeline.execute()
    assert spokes(environ, "migrate").returncode == 0
    engine = open_engine(Settings.from_env(environ).database_address)
    await Archiver(redis, engine, KEY).drain()
    await engine.dispose()
    await DeadLetters(redis).replay(letters[:1], actor="ann", reason="HubSpot was slow")
    await store_dead_letters(redis, letters[0])  # the replay failed
    shown = json.loads(spokes(environ, "dead", "show", "aa", "--json").stdout)
    assert [(record["outcome"], record["actor"], record["reason"]) for record in shown["history"]] == [
        ("retried", "spokes", "rate_limited"),
        ("replayed", "ann", "HubSpot was slow"),
    ]
    assert "Replayed: queued again by ann: HubSpot was slow" in spokes(environ, "dead", "show", "aa").stdout


async def test_replay_queues_the_selected_letters_only(
    environ: dict[str, str], redis: Redis, letters: list[DeadLetter]
) -> None:
    done = spokes(environ, "dead", "replay", "--cause", "not_permitted", "--reason", "scope granted", "--yes")
    remaining = [letter.entry.key async for letter in DeadLetters(redis).list(7)]
    assert (done.returncode, await redis.zcard(JOB_QUEUE), remaining) == (0, 1, ["aa"])


async def test_discard_asks_for_confirmation(environ: dict[str, str], redis: Redis, letters: list[DeadLetter]) -> None:
    done = spokes(environ, "dead", "discard", "aa", "--reason", "gone")  # standard input is empty
    remaining = [letter.entry.key async for letter in DeadLetters(redis).list(7)]
    assert (done.returncode != 0, remaining) == (True, ["bb", "aa"])


async def test_empty_selection_is_exit_code_1(environ: dict[str, str], redis: Redis) -> None:
    done = spokes(environ, "dead", "replay", "--reason", "x", "--yes")
    assert (done.returncode, done.stderr) == (1, "No dead letter matches. `spokes dead list` shows them.\n")


def test_unreachable_redis_is_one_sentence(environ: dict[str, str]) -> None:
    done = spokes({**environ, "REDIS_URL": "redis://127.0.0.1:1"}, "dead", "list")
    assert (done.returncode, "Traceback" in done.stderr, "Redis does not answer" in done.stderr) == (2, False, True)
