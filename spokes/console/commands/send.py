"""`send`: a signed test event to a running web process. Rule: it goes in by the door, like any of HubSpot's.

Make events as HubSpot writes them, for trying a deployment out. Rule: every field can be said otherwise.

Source: HubSpot's "Webhooks API" (payloads).
"""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import aiohttp
import orjson
import typer

from spokes.audit.records import TERMINAL, Action, Outcome
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import Filters, find_records
from spokes.console.output import JsonOption, print_json, print_message, print_table, progress
from spokes.core import clock
from spokes.core.errors import ConfigurationError
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.signature import sign_request

EventFields = dict[str, object]


def build_events(
    subscription_type: str,
    object_id: int | None,
    properties: Sequence[str] = (),
    fields: Sequence[str] = (),
    *,
    portal_id: int,
    count: int = 1,
) -> list[EventFields]:
    """Return the elements of a request.

    Args:
        object_id: of the first record, the others follow it; any records when None.
        properties: `NAME=VALUE`; each makes an event of each record.
        fields: `NAME=JSON`, in place of what stands here; null takes a field away.
        count: how many records.

    Raises:
        typer.BadParameter: a field is not spelled so.
    """
    extra = dict(_parse_field(text) for text in fields)
    changes: list[EventFields] = [
        {"propertyName": name, "propertyValue": value}
        for name, _, value in (text.partition("=") for text in properties)
    ] or [{}]
    made = []
    for number in range(count):
        record = object_id + number if object_id is not None else random.randrange(10**11, 10**12)
        for change in changes:
            element: EventFields = {
                "eventId": random.randrange(10**9, 10**10), "subscriptionId": 1, "portalId": portal_id, "appId": 1,
                "occurredAt": clock.now_ms(), "subscriptionType": subscription_type, "attemptNumber": 0,
                "objectId": record, "changeSource": "CRM_UI", "sourceId": "userId:1", **change, **extra,
            }  # fmt: skip
            made.append({name: value for name, value in element.items() if value is not None})
    return made


def _parse_field(text: str) -> tuple[str, object]:
    name, told, value = text.partition("=")
    if not told:
        raise typer.BadParameter(f"{text!r} is not NAME=JSON.")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value  # a word without its quotes, which the shell has eaten


_BATCH_SIZE: Final = 100  # as many as HubSpot sends at most
_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.25
_SIMULATOR_PORTAL_ID: Final = 50112233  # the simulator's, where no setting names another
_STATUS_EXPLANATIONS: Final = {
    401: "It refuses our signature: is HUBSPOT_CLIENT_SECRET the web process's, and PUBLIC_URL too?",
    403: "It refuses this address or plain http: see ALLOWED_ADDRESSES and TRUSTED_PROXIES.",
    404: "Nothing of Spokes answers there.",
    503: "It cannot take events now: see `spokes doctor`.",
}


def send(
    subscription_type: Annotated[str, typer.Argument(help="Such as contact.creation, deal.deletion.")],
    object_id: Annotated[
        int | None, typer.Option("--object-id", "-o", help="Of the record; any when not given.")
    ] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", "-p", metavar="NAME=VALUE", help="A property that changed; one event for each."),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", "-f", metavar="NAME=JSON", help="Any field of the event; null takes it away."),
    ] = None,
    portal: Annotated[int | None, typer.Option(help="The HubSpot account; else the first of PORTAL_IDS.")] = None,
    count: Annotated[int, typer.Option(help="How many, each of a record of its own.", min=1, max=100_000)] = 1,
    to: Annotated[str, typer.Option(help="Where to send it, when that is not PUBLIC_URL.")] = "",
    wait: Annotated[float, typer.Option(help="Wait so many seconds for the outcomes, and show them.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Send a signed event to a running web process, as HubSpot would.

    HUBSPOT_CLIENT_SECRET signs it for PUBLIC_URL; beside a running `spokes up` neither needs to be set. What no handler
    claims is ignored: `spokes handlers` shows what is claimed.

    Exit code 0 when every event was taken, and with --wait has ended; 1 when not; 2 when nobody answers.

    Example: spokes send contact.propertyChange --object-id 51 --property phone="+1 (415) 555-0100" --wait 10
    Example: spokes send object.creation -f objectTypeId='"0-3"' -f changeSource='"IMPORT"' --count 500
    """
    settings = Settings.from_env(required=("HUBSPOT_CLIENT_SECRET", "PUBLIC_URL"))
    account = portal or next(iter(settings.portal_ids), _SIMULATOR_PORTAL_ID)
    made = build_events(subscription_type, object_id, properties or [], fields or [], portal_id=account, count=count)
    answers = asyncio.run(_send_events(settings, made, to.rstrip("/")))
    taken = all(answer["status"] == 202 for answer in answers)  # noqa: PLR2004 - HTTP's own number
    if as_json:
        print_json(*answers)
    else:
        _print_responses(answers)
    if not taken:
        raise typer.Exit(1)
    if wait:
        _print_outcomes(settings, made, wait, as_json)


async def _send_events(settings: Settings, events: Sequence[EventFields], to: str) -> list[dict[str, Any]]:
    """Post the events in batches; return the answers."""
    url = settings.public_url + RECEIVER_PATH
    address = to if to.endswith(RECEIVER_PATH) else (to or settings.public_url) + RECEIVER_PATH
    answers = []
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with progress("Sending", len(events)) as bar:
            for first in range(0, len(events), _BATCH_SIZE):
                body = orjson.dumps(events[first : first + _BATCH_SIZE])
                headers = sign_request(settings.client_secrets[0], url, body, clock.now_ms())
                answers.append(await _post(session, address, body, headers))
                bar.update(min(first + _BATCH_SIZE, len(events)))
    return answers


async def _post(session: aiohttp.ClientSession, address: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    try:
        async with session.post(address, data=body, headers=headers, allow_redirects=False) as answer:
            told = await answer.read()
            counts = orjson.loads(told) if answer.status == 202 else {}  # noqa: PLR2004 - HTTP's own number
            return {"status": answer.status, "request_id": answer.headers.get("X-Request-Id", ""), **counts}
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
        told_by = type(error).__name__
        raise ConfigurationError([f"{address} does not answer as Spokes does ({told_by}). Is it running?"]) from None


def _print_responses(answers: Sequence[dict[str, Any]]) -> None:
    fates = ("admitted", "duplicate", "ignored", "quarantined")
    columns = ("Answer", "Delivery", *(fate.capitalize() for fate in fates))
    print_table(
        columns,
        (
            (answer["status"], "\n".join(answer.get("deliveries", ())), *(answer.get(fate, "") for fate in fates))
            for answer in answers
        ),
    )
    for status in sorted({answer["status"] for answer in answers} & set(_STATUS_EXPLANATIONS)):
        print_message(_STATUS_EXPLANATIONS[status])
    if any(answer.get("ignored") for answer in answers):
        print_message("No handler claims what was ignored: `spokes handlers` shows what is claimed.")
    if any(answer.get("quarantined") for answer in answers):
        print_message(
            "What was quarantined is no event, or of a portal that is not served: `spokes audit query` says why."
        )


def _print_outcomes(settings: Settings, events: Sequence[EventFields], seconds: float, as_json: bool) -> None:
    """Show how the events ended; exit code 1 when not all have in time."""
    ids = [int(str(event["eventId"])) for event in events if isinstance(event.get("eventId"), int)]
    found = asyncio.run(_wait_for_outcomes(settings, ids, seconds))
    rows = [found[event_id] for event_id in ids if event_id in found]
    if as_json:
        print_json(*rows)
    else:
        names = ("event_id", "object_id", "outcome", "reason", "attempt", "handler")
        print_table(
            ("Event", "Object", "Outcome", "Reason", "Tries", "Handler"), ([row[n] for n in names] for row in rows)
        )
    if open_ := len(ids) - sum(row["outcome"] in TERMINAL for row in rows):
        print_message(f"{open_} of {len(ids)} have not ended yet: `spokes events` shows them later.")
        raise typer.Exit(1)


async def _wait_for_outcomes(settings: Settings, ids: Sequence[int], seconds: float) -> dict[int, dict[str, Any]]:
    """Wait until all have ended or the time is over; return what is known of each."""
    engine = open_engine(settings.database_address)
    found: dict[int, dict[str, Any]] = {}
    deadline = time.monotonic() + seconds
    names = ("event_id", "object_id", "outcome", "reason", "attempt", "handler", "event_key")
    left = set(ids)
    try:
        with progress("Waiting for outcomes", len(ids)) as bar:
            while left and time.monotonic() < deadline:
                for event_id in sorted(left):
                    filters = Filters(action=Action.EVENT, event_id=event_id)
                    async for row in find_records(engine, filters, newest_first=True, limit=1):
                        found[event_id] = {name: row[name] for name in names}
                        if row["outcome"] in TERMINAL | {Outcome.IGNORED, Outcome.DUPLICATE}:
                            left.discard(event_id)
                bar.update(len(ids) - len(left))
                await asyncio.sleep(_POLL_S if left else 0)
    finally:
        await engine.dispose()
    return found
