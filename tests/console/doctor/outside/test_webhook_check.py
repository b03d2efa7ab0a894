"""An alert webhook that cannot work is a fault; one that refuses HEAD is not."""

import pytest
from aiohttp import web

from spokes.console.doctor.findings import FindingLevel
from spokes.console.doctor.outside.webhook_check import assess_status, check_alert_webhook
from spokes.core.settings import Settings
from tests.support.deployment import KEY


async def test_unreachable_webhook_is_a_fault(environ: dict[str, str]) -> None:
    settings = Settings.from_env(
        {**environ, "ALERT_WEBHOOK_SECRET": f"webhook-{KEY}", "ALERT_WEBHOOK_URL": "http://127.0.0.1:1/hook"}
    )
    [finding] = await check_alert_webhook(settings)
    assert (finding.level, "alerts reach nobody" in finding.sentence) == (FindingLevel.FAULT, True)
    assert "hook." not in finding.sentence


async def test_unset_webhook_is_no_finding(settings: Settings) -> None:
    assert await check_alert_webhook(settings) == []


async def test_check_sends_no_message(environ: dict[str, str]) -> None:
    methods = []

    async def answer(request: web.Request) -> web.Response:
        methods.append(request.method)
        return web.Response(status=405)

    app = web.Application()
    app.router.add_route("*", "/hook", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    [finding] = await check_alert_webhook(
        Settings.from_env({**environ, "ALERT_WEBHOOK_SECRET": f"webhook-{KEY}", "ALERT_WEBHOOK_URL": url})
    )
    await runner.cleanup()
    assert (finding.level, methods) == (FindingLevel.OK, ["HEAD"])


@pytest.mark.parametrize(("status", "level"), [(200, "ok"), (404, "warning"), (405, "ok"), (410, "fault")])
def test_webhook_is_assessed_by_its_response(status: int, level: str) -> None:
    assert assess_status(status).level == level
