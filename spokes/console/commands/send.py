"""`send`: build test events, sign them as HubSpot does and send them to a running web process.

Source: HubSpot's "Webhooks API" (payloads).
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import aiohttp
import orjson
import typer

from spokes.audit.records import TERMINAL, Action, Outcome
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import Filters, find_records
from spokes.console.doctor.outside.receiver_check import explain_status
from spokes.console.local.simulated_records import create_simulated_records
from spokes.console.output import JsonOption, print_json, print_message, print_table, progress
from spokes.core import clock
from spokes.core.errors import ConfigurationError
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.signature import sign_request
from spokes.registrations import registration_key

_BATCH_SIZE: Final = 100  # the most that HubSpot sends in one request
_TIMEOUT_S: Final = 10.0
_MAX_ID: Final = 2**53  # larger numbers are rounded by many JSON parsers
_POLL_S: Final = 0.25
_TYPES_WITHOUT_RECORDS: Final = frozenset({"conversation", "event"})
_ANY_OBJECT: Final = "object"
# Fields that an event of a kind needs beside those that every event has, and the option that sets each.
_NEEDED_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "propertyChange": {"propertyName": "--property NAME=VALUE"},
    "associationChange": {"fromObjectId": "--field fromObjectId=ID", "toObjectId": "--field toObjectId=ID"},
    "merge": {"mergedObjectIds": "--field mergedObjectIds=[ID]"},
}
_TYPE_FIELD: Final = {"objectTypeId": "--field objectTypeId=0-1"}
_TYPE_FIELDS_OF_ASSOCIATIONS: Final = {
    "fromObjectTypeId": "--field fromObjectTypeId=0-1",
    "toObjectTypeId": "--field toObjectTypeId=0-2",
}
_SIMULATOR_PORTAL_ID: Final = 50112233  # used when PORTAL_IDS is not set

EventFields = dict[str, object]


def send(
    subscription_type: Annotated[str, typer.Argument(help="Event type, such as contact.creation or deal.deletion.")],
    object_id: Annotated[
        int | None,
        typer.Option(
            "--object-id",
            "-o",
            help="Id of the record; default: one that the simulator creates, else a random one.",
            min=1,
            max=_MAX_ID,
        ),
    ] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", "-p", metavar="NAME=VALUE", help="A changed property; each makes its own event."),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", "-f", metavar="NAME=JSON", help="Set any field of the event; null removes it."),
    ] = None,
    portal: Annotated[
        int | None, typer.Option(help="The HubSpot account; default: the first of PORTAL_IDS.", min=1, max=_MAX_ID)
    ] = None,
    count: Annotated[int, typer.Option(help="Number of records, each with its own events.", min=1, max=100_000)] = 1,
    to: Annotated[str, typer.Option(help="Send to this address; default: PUBLIC_URL.")] = "",
    wait: Annotated[
        float, typer.Option(help="Wait up to this many seconds for the outcomes, and show them.", min=0)
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Send a signed event to a running web process, as HubSpot would.

    HUBSPOT_CLIENT_SECRET signs it for PUBLIC_URL; while `spokes up` runs, neither needs to be set. Events without
    a handler are ignored: `spokes handlers` shows which events have one.

    Without --object-id, the simulator of `spokes up` first creates the record, with the values of --property.

    Exit code 0 when every event was accepted and, with --wait, ended well; 1 when one was refused, has no final outcome
    yet, or ended as a dead letter; 2 when the web process does not answer.

    Example: spokes send contact.propertyChange --object-id 51 --property phone="+1 (415) 555-0100" --wait 10
    Example: spokes send object.creation -f objectTypeId='"0-3"' -f changeSource='"IMPORT"' --count 500
    """
    _check_type(subscription_type)
    settings = Settings.from_env(required=("HUBSPOT_CLIENT_SECRET", "PUBLIC_URL"))
    portal_id = portal or next(iter(settings.portal_ids), _SIMULATOR_PORTAL_ID)
    changes, overrides = properties or [], fields or []
    _check_fields(subscription_type, changes, overrides)
    record_ids = (
        [] if object_id else asyncio.run(_create_records(settings, subscription_type, changes, overrides, count))
    )
    events = build_events(
        subscription_type, object_id, changes, overrides, portal_id=portal_id, count=count, record_ids=record_ids
    )
    responses = asyncio.run(_send_events(settings, events, to.rstrip("/")))
    accepted = all(response["status"] == 202 for response in responses)  # noqa: PLR2004 - HTTP's own number
    if as_json:
        print_json(*responses)
    else:
        _print_responses(responses)
    if not accepted:
        raise typer.Exit(1)
    if wait:
        _print_outcomes(settings, events, wait, as_json)


def build_events(
    subscription_type: str,
    object_id: int | None,
    properties: Sequence[str] = (),
    fields: Sequence[str] = (),
    *,
    portal_id: int,
    count: int = 1,
    record_ids: Sequence[int] = (),
) -> list[EventFields]:
    """Return events as HubSpot writes them.

    Args:
        object_id: id of the first record; the others have the ids after it. None chooses random ids.
        properties: `NAME=VALUE`; each makes one event per record.
        fields: `NAME=JSON`; overrides a field of every event, null removes it.
        count: number of records.
        record_ids: ids of existing records, instead of `object_id`.

    Raises:
        typer.BadParameter: a field is not of the form NAME=JSON.
    """
    overrides = dict(_parse_field(text) for text in fields)
    changes: list[EventFields] = [
        {"propertyName": name, "propertyValue": value}
        for name, _, value in (text.partition("=") for text in properties)
    ] or [{}]
    events = []
    for number in range(count):
        if record_ids:
            record_id = record_ids[number]
        else:
            record_id = object_id + number if object_id is not None else random.randrange(10**11, 10**12)
        for change in changes:
            event: EventFields = {
                "eventId": random.randrange(10**9, 10**10), "subscriptionId": 1, "portalId": portal_id, "appId": 1,
                "occurredAt": clock.now_ms(), "subscriptionType": subscription_type, "attemptNumber": 0,
                "objectId": record_id, "changeSource": "CRM_UI", "sourceId": "userId:1", **change, **overrides,
            }  # fmt: skip
            events.append({name: value for name, value in event.items() if value is not None})
    return events


def _check_type(subscription_type: str) -> None:
    """Refuse a type that HubSpot does not send: Spokes would ignore the event.

    Raises:
        typer.BadParameter: it is not an event type.
    """
    try:
        registration_key(subscription_type)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="SUBSCRIPTION_TYPE") from None


def _check_fields(subscription_type: str, properties: Sequence[str], fields: Sequence[str]) -> None:
    """Refuse an event that lacks a field which its kind needs: Spokes would quarantine it. `NAME=null` is deliberate.

    Raises:
        typer.BadParameter: a field is missing.
    """
    names = {_parse_field(text)[0] for text in fields} | ({"propertyName"} if properties else set())
    family, _, kind = subscription_type.partition(".")
    needed = dict(_NEEDED_FIELDS.get(kind, {}))
    if family == _ANY_OBJECT:
        needed |= _TYPE_FIELDS_OF_ASSOCIATIONS if kind == "associationChange" else _TYPE_FIELD
    if missing := [option for name, option in needed.items() if name not in names]:
        raise typer.BadParameter(
            f"{subscription_type} needs more to be an event. Add {' '.join(missing)}", param_hint="SUBSCRIPTION_TYPE"
        )


async def _create_records(
    settings: Settings, subscription_type: str, properties: Sequence[str], fields: Sequence[str], count: int
) -> list[int]:
    """Return the ids of records that the simulator creates for the events; none without a simulator."""
    overrides = dict(_parse_field(text) for text in fields)
    family = subscription_type.partition(".")[0]
    if family == _ANY_OBJECT:
        family = str(overrides.get("objectTypeId", ""))
    if not family or family in _TYPES_WITHOUT_RECORDS or not {"objectId", "fromObjectId"}.isdisjoint(overrides):
        return []
    values = {name: value for name, _, value in (text.partition("=") for text in properties)}
    return await create_simulated_records(settings.hubspot_api_url, family, values, count)


def _parse_field(text: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"{text!r} is not NAME=JSON.")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value  # a string whose quotes the shell has removed


async def _send_events(settings: Settings, events: Sequence[EventFields], to: str) -> list[dict[str, Any]]:
    """Post the events in batches; return one response per batch."""
    signed_url = settings.public_url + RECEIVER_PATH
    address = to if to.endswith(RECEIVER_PATH) else (to or settings.public_url) + RECEIVER_PATH
    responses = []
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with progress("Sending", len(events)) as bar:
            for first in range(0, len(events), _BATCH_SIZE):
                body = orjson.dumps(events[first : first + _BATCH_SIZE])
                headers = sign_request(settings.client_secrets[0], signed_url, body, clock.now_ms())
                responses.append(await _post(session, address, body, headers))
                bar.update(min(first + _BATCH_SIZE, len(events)))
    return responses


async def _post(session: aiohttp.ClientSession, address: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    try:
        async with session.post(address, data=body, headers=headers, allow_redirects=False) as response:
            content = await response.read()
            counts = orjson.loads(content) if response.status == 202 else {}  # noqa: PLR2004 - HTTP's own number
            return {"status": response.status, "request_id": response.headers.get("X-Request-Id", ""), **counts}
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
        raise ConfigurationError(
            [f"{address} does not answer as Spokes does ({type(error).__name__}), so nothing was sent. Is it running?"]
        ) from None


def _print_responses(responses: Sequence[dict[str, Any]]) -> None:
    counts = ("admitted", "duplicate", "ignored", "quarantined")
    columns = ("Status", "Delivery", *(name.capitalize() for name in counts))
    print_table(
        columns,
        (
            (
                response["status"],
                "\n".join(response.get("deliveries", ())),
                *(response.get(name, "") for name in counts),
            )
            for response in responses
        ),
    )
    for status in sorted({response["status"] for response in responses} - {202}):
        print_message(explain_status(status))
    if any(response.get("ignored") for response in responses):
        print_message("Ignored events have no handler: `spokes handlers` shows which events have one.")
    if any(response.get("quarantined") for response in responses):
        print_message(
            "Quarantined elements are not valid events, or belong to a portal that PORTAL_IDS does not list: "
            "`spokes audit query` shows the reason."
        )


def _print_outcomes(settings: Settings, events: Sequence[EventFields], seconds: float, as_json: bool) -> None:
    """Print the outcomes of the events; exit with 1 if some have no final outcome in time, or are dead letters."""
    ids = [int(str(event["eventId"])) for event in events if isinstance(event.get("eventId"), int)]
    outcomes = asyncio.run(_wait_for_outcomes(settings, ids, seconds))
    rows = [outcomes[event_id] for event_id in ids if event_id in outcomes]
    if as_json:
        print_json(*rows)
    else:
        names = ("event_id", "object_id", "outcome", "reason", "attempt", "handler")
        columns = ("Event", "Object", "Outcome", "Reason", "Attempts", "Handler")
        print_table(columns, ([row[name] for name in names] for row in rows))
    if unfinished := len(ids) - sum(row["outcome"] in TERMINAL for row in rows):
        print_message(f"{unfinished} of {len(ids)} events have no final outcome yet: `spokes events` shows it later.")
    dead = [row["event_key"] for row in rows if row["outcome"] == Outcome.DEAD]
    if dead:
        print_message(f"{len(dead)} of {len(ids)} events ended as dead letters: `spokes dead show {dead[0]}` says why.")
    if unfinished or dead:
        raise typer.Exit(1)


async def _wait_for_outcomes(settings: Settings, ids: Sequence[int], seconds: float) -> dict[int, dict[str, Any]]:
    """Poll the audit store until all events have a final outcome or the time is over; return each event's latest."""
    engine = open_engine(settings.database_address)
    outcomes: dict[int, dict[str, Any]] = {}
    deadline = time.monotonic() + seconds
    names = ("event_id", "object_id", "outcome", "reason", "attempt", "handler", "event_key")
    unfinished = set(ids)
    try:
        with progress("Waiting for outcomes", len(ids)) as bar:
            while unfinished and time.monotonic() < deadline:
                for event_id in sorted(unfinished):
                    filters = Filters(action=Action.EVENT, event_id=event_id)
                    async for row in find_records(engine, filters, newest_first=True, limit=1):
                        outcomes[event_id] = {name: row[name] for name in names}
                        if row["outcome"] in TERMINAL | {Outcome.IGNORED, Outcome.DUPLICATE}:
                            unfinished.discard(event_id)
                bar.update(len(ids) - len(unfinished))
                await asyncio.sleep(_POLL_S if unfinished else 0)
    finally:
        await engine.dispose()
    return outcomes
