"""spokes.subscriptions.push.api: fields of answers are read to their types, and a foreign page is no answer."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from spokes.core.settings import Settings
from spokes.subscriptions.push import api as push_api
from spokes.subscriptions.push.api import PushApi, PushSettings, RemoteSubscription
from spokes.subscriptions.refusals import SubscriptionOutcomeUnknown
from spokes.subscriptions.subscribed_events import SubscribedEvent


class Hub:
    """A server that gives the same answer to every call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def read(self, text: str) -> tuple[PushSettings | None, Any]:
        """Return what the API reads as settings and as subscriptions."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(text=text, content_type="application/json")

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        async with TestServer(app) as server:
            values = {"hubspot_api_url": str(server.make_url("")).rstrip("/"), "hubspot_app_id": 77}
            settings = self._settings.model_copy(update=values | {"hubspot_developer_api_key": SecretStr("key")})
            async with PushApi(settings) as api:
                return await api.read_settings(), await api.list_subscriptions()


@pytest.fixture
def hub(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(push_api, "_BACKOFF_S", 0.001)
    return Hub(settings)


@pytest.mark.parametrize("text", ["<html>a proxy's page</html>", '{"targetUrl": "https://x', "[1]", '"text"'])
async def test_answer_that_is_no_object_is_no_answer(hub: Hub, text: str) -> None:
    with pytest.raises(SubscriptionOutcomeUnknown, match="does not answer"):
        await hub.read(text)


@pytest.mark.parametrize(
    ("number", "text", "at"),
    [("11", "true", "1700000000000"), ('"11"', '"true"', '"1700000000000"'), ("11.0", '"TRUE"', "1700000000000.0")],
)
async def test_numbers_and_flags_are_read_in_every_spelling(hub: Hub, number: str, text: str, at: str) -> None:
    subscription = f'{{"id": {number}, "eventType": "contact.creation", "active": {text}, "createdAt": {at}}}'
    throttling = f'"throttling": {{"maxConcurrentRequests": {number}}}'
    settings, subscriptions = await hub.read(f'{{"targetUrl": "https://a", {throttling}, "results": [{subscription}]}}')
    assert settings == PushSettings("https://a", 11)
    event = SubscribedEvent("contact", "creation")
    assert subscriptions == [RemoteSubscription(11, event, is_active=True, created_at=1_700_000_000_000)]


async def test_entry_without_a_usable_id_is_left_out(hub: Hub) -> None:
    entries = '{"id": null}, {"id": "x"}, {"id": -1}, {"id": true}, 5, null'
    assert (await hub.read(f'{{"targetUrl": 5, "results": [{entries}]}}')) == (PushSettings("", 0), [])
