"""`send`: signed test events."""

import asyncio

import pytest
from redis.asyncio import Redis

from spokes.console.commands.send import build_events
from spokes.core.settings import Settings
from tests.support.command_line import spokes, spokes_process
from tests.support.deployment import WebProcessServer


@pytest.mark.slow
async def test_refused_event_is_exit_code_1_and_a_sentence(
    settings: Settings, environ: dict[str, str], redis: Redis
) -> None:
    async with WebProcessServer(settings) as server:
        wrong_secret = {**environ, "HUBSPOT_CLIENT_SECRET": "another-secret"}
        arguments = ("send", "contact.creation", "--to", str(server.make_url("/")))
        done = await asyncio.to_thread(spokes_process, wrong_secret, *arguments)
    assert (done.returncode, "HUBSPOT_CLIENT_SECRET" in done.stderr) == (1, True)


@pytest.mark.slow
def test_unreachable_web_process_is_exit_code_2_and_a_sentence(environ: dict[str, str]) -> None:
    done = spokes_process(environ, "send", "contact.creation", "--to", "http://127.0.0.1:1")
    assert (done.returncode, "Is it running?" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_event_of_any_type_with_any_fields_is_built() -> None:
    fields = ['objectTypeId="0-3"', "changeSource=IMPORT", "isSensitive=true", "sourceId=null"]
    events = build_events("object.propertyChange", 7, ["a=1", "b=x=y"], fields, portal_id=9, count=2)
    assert [(event["objectId"], event["propertyName"], event["propertyValue"]) for event in events] == [
        (7, "a", "1"), (7, "b", "x=y"), (8, "a", "1"), (8, "b", "x=y"),
    ]  # fmt: skip
    first, second = events[:2]
    assert (first["objectTypeId"], first["changeSource"], first["isSensitive"]) == ("0-3", "IMPORT", True)
    assert ("sourceId" in first, first["eventId"] != second["eventId"], first["portalId"]) == (False, True, 9)


@pytest.mark.parametrize("option", ["--object-id", "--portal"])
@pytest.mark.parametrize("number", ["99999999999999999999999", "-1", "0"])
def test_id_that_no_record_has_is_refused(environ: dict[str, str], option: str, number: str) -> None:
    done = spokes(environ, "send", "contact.creation", option, number)
    assert (done.returncode, option in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [
        ("contact.creatoin", "contact.creation"),
        ("contacts.creation", "contact.creation"),
        ("deal.deleted", "deal.deletion"),
    ],
)
def test_type_that_hubspot_does_not_send_is_refused_with_a_suggestion(
    environ: dict[str, str], written: str, suggestion: str
) -> None:
    done = spokes(environ, "send", written)
    assert (done.returncode, suggestion in done.stderr, "Traceback" in done.stderr) == (2, True, False), done


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (("deal.associationChange",), ["fromObjectId=ID", "toObjectId=ID"]),
        (("deal.associationChange", "-f", "fromObjectId=7"), ["toObjectId=ID"]),
        (("object.associationChange", "-f", "fromObjectId=7", "-f", "toObjectId=8"), ["fromObjectTypeId=0-1"]),
        (("contact.merge", "--object-id", "7"), ["mergedObjectIds=[ID]"]),
        (("ticket.propertyChange",), ["--property NAME=VALUE"]),
        (("object.creation",), ["objectTypeId=0-1"]),
    ],
)
def test_event_without_a_field_that_its_kind_needs_is_refused_with_the_option(
    environ: dict[str, str], arguments: tuple[str, ...], missing: list[str]
) -> None:
    done = spokes(environ, "send", *arguments)
    words = "".join(done.stderr.split()).replace("│", "")  # the message is framed and wrapped
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert [option for option in missing if option.replace(" ", "") not in words] == []


def test_field_that_is_removed_on_purpose_is_not_asked_for(environ: dict[str, str]) -> None:
    arguments = ("deal.associationChange", "-f", "fromObjectId=null", "-f", "toObjectId=8")
    done = spokes(environ, "send", *arguments, "--to", "http://127.0.0.1:1")
    assert "Is it running?" in done.stderr
