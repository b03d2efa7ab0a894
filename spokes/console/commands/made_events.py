"""Make events as HubSpot writes them, for trying a deployment out. Rule: every field can be said otherwise.

Source: HubSpot's "Webhooks API" (payloads).
"""

import random
import time
from collections.abc import Sequence

import orjson
import typer

Raw = dict[str, object]


def make(
    subscription_type: str,
    object_id: int | None,
    properties: Sequence[str] = (),
    fields: Sequence[str] = (),
    *,
    portal_id: int,
    count: int = 1,
) -> list[Raw]:
    """Return the elements of a request.

    Args:
        object_id: of the first record, the others follow it; any records when None.
        properties: `NAME=VALUE`; each makes an event of each record.
        fields: `NAME=JSON`, in place of what stands here; null takes a field away.
        count: how many records.

    Raises:
        typer.BadParameter: a field is not spelled so.
    """
    extra = dict(_field(text) for text in fields)
    changes: list[Raw] = [
        {"propertyName": name, "propertyValue": value}
        for name, _, value in (text.partition("=") for text in properties)
    ] or [{}]
    made = []
    for number in range(count):
        record = object_id + number if object_id is not None else random.randrange(10**11, 10**12)
        for change in changes:
            element: Raw = {
                "eventId": random.randrange(10**9, 10**10), "subscriptionId": 1, "portalId": portal_id, "appId": 1,
                "occurredAt": time.time_ns() // 1_000_000, "subscriptionType": subscription_type, "attemptNumber": 0,
                "objectId": record, "changeSource": "CRM_UI", "sourceId": "userId:1", **change, **extra,
            }  # fmt: skip
            made.append({name: value for name, value in element.items() if value is not None})
    return made


def _field(text: str) -> tuple[str, object]:
    name, told, value = text.partition("=")
    if not told:
        raise typer.BadParameter(f"{text!r} is not NAME=JSON.")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value  # a word without its quotes, which the shell has eaten
