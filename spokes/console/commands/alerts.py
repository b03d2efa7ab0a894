"""`alerts`: show the active alerts, or test the alert webhook."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from spokes.audit.alerts.alert_webhook import AlertWebhook
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table
from spokes.console.queries.alerts import ActiveAlert, active_alerts
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings


def alerts(
    test: Annotated[bool, typer.Option("--test", help="Send a signed test message to ALERT_WEBHOOK_URL.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the active alerts: since when, what each means and what to do. An alert ends when its cause is gone.

    Exit code 1 when --test was given and the webhook does not accept the message.

    Example: spokes alerts
    Example: spokes alerts --test
    """
    settings = Settings.from_env()
    if test:
        _send_test_message(settings, as_json)
        return
    active = asyncio.run(_active_alerts(settings))
    if as_json:
        print_json(*map(asdict, active))
    elif not active:
        print_message("No alert is active.")
    else:
        print_table(("Since (UTC)", "Alert", "Portal", "Meaning", "What to do", "Figures"), map(_alert_row, active))


def _send_test_message(settings: Settings, as_json: bool) -> None:
    if not settings.alert_webhook_url.get_secret_value():
        raise ConfigurationError(
            ["ALERT_WEBHOOK_URL is not set, so no alert is sent anywhere. Set it to the address that receives alerts."]
        )
    status = asyncio.run(_post_test_message(settings))
    accepted = 200 <= status < 300  # noqa: PLR2004 - HTTP's own numbers
    if as_json:
        print_json({"taken": accepted, "status": status or None})
    elif accepted:
        print(f"The webhook accepted the test message ({status}).")
    else:
        response = f"answered {status}" if status else "did not answer"
        print_message(
            f"The webhook {response}, so alerts do not reach it now. A real alert is sent again for a day, unless the "
            "webhook refuses it with 4xx. Check ALERT_WEBHOOK_URL."
        )
    raise typer.Exit(0 if accepted else 1)


async def _post_test_message(settings: Settings) -> int:
    async with operator_redis(settings) as redis:
        return await AlertWebhook(settings, redis).send_test()


async def _active_alerts(settings: Settings) -> tuple[ActiveAlert, ...]:
    async with operator_redis(settings) as redis:
        return await active_alerts(redis, None)


def _alert_row(alert: ActiveAlert) -> tuple[object, ...]:
    figures = ", ".join(f"{name} {value}" for name, value in alert.fields.items())
    return format_utc(alert.since), alert.name, alert.portal_id or "", alert.meaning, alert.advice, figures
