"""`alerts`: which stand, what they mean and what to do; and whether the webhook takes them. Rule: it ends none."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from spokes.audit.alert_webhook import AlertWebhook
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table
from spokes.console.queries.alerts import ActiveAlert
from spokes.console.queries.alerts import active_alerts as answer
from spokes.core.errors import ConfigurationError
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings


def alerts(
    test: Annotated[bool, typer.Option("--test", help="Send a signed test message to ALERT_WEBHOOK_URL.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the alerts that stand, with what to do about each.

    Exit code 1 when --test was given and the webhook does not take the message.

    Example: spokes alerts
    Example: spokes alerts --test
    """
    settings = Settings.from_env()
    if test:
        _send_test_message(settings, as_json)
        return
    found = asyncio.run(_active_alerts(settings))
    if as_json:
        print_json(*map(asdict, found))
    elif not found:
        print_message("No alert stands.")
    else:
        print_table(("Since (UTC)", "Alert", "Portal", "Means", "Do", "Figures"), map(_alert_row, found))


def _send_test_message(settings: Settings, as_json: bool) -> None:
    if not settings.alert_webhook_url.get_secret_value():
        raise ConfigurationError(["ALERT_WEBHOOK_URL is not set: no alert is sent."])
    status = asyncio.run(_post_test_message(settings))
    taken = 200 <= status < 300  # noqa: PLR2004 - HTTP's own numbers
    if as_json:
        print_json({"taken": taken, "status": status or None})
    elif taken:
        print(f"The webhook took it ({status}).")
    else:
        told = f"answered {status}" if status else "did not answer"
        print_message(f"The webhook {told}: an alert would be sent again for a day, unless it is refused with 4xx.")
    raise typer.Exit(0 if taken else 1)


async def _post_test_message(settings: Settings) -> int:
    async with redis_client(settings) as redis:
        return await AlertWebhook(settings, redis).send_test()


async def _active_alerts(settings: Settings) -> tuple[ActiveAlert, ...]:
    async with redis_client(settings) as redis:
        return await answer(redis, None)


def _alert_row(alert: ActiveAlert) -> tuple[object, ...]:
    figures = ", ".join(f"{name} {value}" for name, value in alert.fields.items())
    return format_utc(alert.since), alert.name, alert.portal_id or "", alert.meaning, alert.advice, figures
