"""The settings of one portal over the API and on its page: who may read and change them, and what is refused."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.core.redis import keys
from spokes.portals.profile import PortalProfile
from spokes.portals.profile_store import ProfileStore
from spokes.portals.published_profiles import PublishedProfiles
from spokes.portals.store import PortalStore
from tests.console.installs.test_portal_endpoints import authorization
from tests.console.installs.test_portal_pages import install
from tests.support.console_visitor import HOSTILE_HTML, Visitor, running_console, visible_text
from tests.support.events import recorded

PATH = "/console/portals/11/settings"
API = "/api/v1/portals/11/settings"
CHANGES = (
    ({"name": "Nordlys AS"}, "Nordlys AS"), ({"handlers": ["contacts.greet"]}, ("contacts.greet",)),
    ({"handlers": ["-contacts.greet"]}, ("-contacts.greet",)),
    ({"events": ["contact.creation"]}, ("contact.creation",)),
    ({"region": "NO"}, "NO"), ({"time_zone": "Europe/Oslo"}, "Europe/Oslo"), ({"currency": "nok"}, "NOK"),
)  # fmt: skip


@pytest.fixture
async def client(own_environ: dict[str, str], redis: Redis, store: PortalStore) -> AsyncIterator[TestClient]:
    await install(store, 11, 12)
    async with running_console(own_environ) as client:
        yield client


async def post(client: TestClient, role: Role, body: dict[str, object], *portals: int) -> ClientResponse:
    headers = authorization(client, role, *portals)
    async with client.post(API, json={"reason": "contract", **body}, headers=headers) as response:
        await response.read()
    return response


async def profile_of(store: PortalStore) -> PortalProfile:
    return await ProfileStore(store.engine, store.vault).read(11)


@pytest.mark.parametrize(("body", "value"), CHANGES)
async def test_each_setting_is_changed_published_and_audited(
    client: TestClient, store: PortalStore, redis: Redis, body: dict[str, object], value: object
) -> None:
    [name] = body
    answer = await (await post(client, Role.OPERATOR, body)).json()
    assert answer[name] == (list(value) if isinstance(value, tuple) else value)
    profiles = PublishedProfiles(redis)
    await profiles.refresh()
    assert getattr(profiles.get(11), name) == getattr(await profile_of(store), name) == value
    [record] = await recorded(redis)
    assert (record.action, record.portal_id, record.reason, record.detail["changed"], "address" in record.detail) == (
        "portal.changed", 11, "contract", [name], True,
    )  # fmt: skip


async def test_own_settings_are_written_but_never_shown(client: TestClient, store: PortalStore, redis: Redis) -> None:
    answer = await (await post(client, Role.ADMIN, {"own": {"greeting": "canary"}})).text()
    async with client.get(API, headers=authorization(client, Role.ADMIN)) as response:
        read = await response.json()
    visitor = await Visitor.signed_in(client, Role.ADMIN)
    page = (await visitor.get(PATH))[1]
    assert read["own"] == ["greeting"]
    assert "canary" not in f"{answer}{read}{page}{await recorded(redis)}"
    profiles = ProfileStore(store.engine, store.vault)
    assert profiles.values(await profile_of(store)) == {"greeting": "canary"}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "No setting differs"),
        ({"handlers": ["contacts.gret"]}, "Did you mean 'contacts.greet'?"),
        ({"handlers": ["contacts.greet", "-contacts.greet"]}, "not both"),
        ({"handlers": [","]}, "handlers: holds commas only"),
        ({"events": ["everything"]}, "events: must be event types"),
        ({"region": "Norway"}, "region: must be"),
        ({"region": "ZZ"}, "region: is the code of no country"),
        ({"time_zone": "Oslo"}, "must be a name such as Europe/Oslo"),
        ({"time_zone": "../../etc/passwd"}, "must be a name such as Europe/Oslo"),
        ({"currency": "kroner"}, "three letters such as EUR"),
        ({"name": "a\nb"}, "printable characters"),
        ({"own": {"greting": "canary"}}, "Did you mean 'greeting'?"),
        ({"own": {"limit": "canary"}}, "whole number"),
        ({"own": {"limit": 3}}, "own.limit"),
        ({"handlers": "contacts.greet"}, "handlers: "),
        ({"zone": "Europe/Oslo"}, "zone: "),
        ({"reason": " ", "region": "NO"}, "reason: "),
    ],
)
async def test_wrong_setting_is_refused_in_a_sentence_and_changes_nothing(
    client: TestClient, store: PortalStore, redis: Redis, body: dict[str, object], sentence: str
) -> None:
    response = await post(client, Role.ADMIN, body)
    text = await response.text()
    assert (response.status, sentence in text, "canary" in text) == (422, True, False), text
    assert (await recorded(redis), (await profile_of(store)).is_empty) == ([], True)


@pytest.mark.parametrize("role", Role)
async def test_operators_and_admins_change_and_all_roles_read(
    client: TestClient, store: PortalStore, role: Role
) -> None:
    may = role in {Role.OPERATOR, Role.ADMIN}
    assert (await post(client, role, {"region": "NO"})).status == (200 if may else 403)
    async with client.get(API, headers=authorization(client, role)) as response:
        assert response.status == 200
    visitor = await Visitor.signed_in(client, role)
    assert ((await visitor.get(PATH))[0], f'action="{PATH}"' in (await visitor.get(PATH))[1]) == (200, may)
    assert (await visitor.post(PATH, {"region": "SE", "reason": "x"})).status == (200 if may else 403)


async def test_actor_of_another_portal_is_told_that_it_is_unknown(
    client: TestClient, store: PortalStore, redis: Redis
) -> None:
    assert (await post(client, Role.ADMIN, {"region": "NO"}, 12)).status == 404
    async with client.get(API, headers=authorization(client, Role.ADMIN, 12)) as response:
        hidden = await response.text()
    async with client.get("/api/v1/portals/99/settings", headers=authorization(client, Role.ADMIN)) as response:
        unknown = await response.text()
    assert hidden.partition('"correlation_id"')[0] == unknown.partition('"correlation_id"')[0]
    visitor = await Visitor.signed_in(client, Role.ADMIN, portals=[12])
    assert (await visitor.get(PATH))[0] == (await visitor.post(PATH, {"region": "NO", "reason": "x"})).status == 404
    assert (await recorded(redis), (await profile_of(store)).is_empty) == ([], True)


async def test_portal_of_an_access_token_has_settings_too(client: TestClient, redis: Redis) -> None:
    await redis.zadd(keys.CREDENTIAL_PORTALS, {"77": 1})
    headers = authorization(client, Role.OPERATOR)
    body = {"reason": "x", "region": "NO"}
    async with client.post("/api/v1/portals/77/settings", json=body, headers=headers) as response:
        assert (response.status, (await response.json())["region"]) == (200, "NO")
    linked = [
        (await visitor.get("/console/portals"))[1]
        for visitor in (
            await Visitor.signed_in(client, Role.VIEWER),
            await Visitor.signed_in(client, Role.VIEWER, portals=[11]),
        )
    ]
    assert ["/console/portals/77/settings" in page for page in linked] == [True, False]


async def test_form_without_its_csrf_token_changes_nothing(client: TestClient, store: PortalStore) -> None:
    visitor = await Visitor.signed_in(client, Role.ADMIN)
    assert (await visitor.post(PATH, {"region": "NO", "reason": "x"}, csrf="")).status == 403
    assert (await visitor.post(PATH, {"region": "NO", "reason": "x"}, site="cross-site")).status == 403
    assert (await profile_of(store)).is_empty


async def test_form_changes_only_what_was_edited_in_it(client: TestClient, store: PortalStore, redis: Redis) -> None:
    visitor = await Visitor.signed_in(client, Role.OPERATOR)
    form = {f"{prefix}{name}": "" for name in ("name", "handlers", "events", "region", "time_zone", "currency")
            for prefix in ("", "shown.")}  # fmt: skip
    await post(client, Role.OPERATOR, {"region": "NO", "own": {"greeting": "Hei"}})  # after the form was opened
    response = await visitor.post(PATH, {**form, "currency": "NOK", "own.greeting": "", "reason": "x"})
    assert "NOK" in visible_text(await response.text())
    profile = await profile_of(store)
    assert (profile.region, profile.currency, bool(profile.sealed_values)) == ("NO", "NOK", True)
    response = await visitor.post(PATH, {**form, "shown.region": "NO", "end": "greeting", "reason": "x"})
    profile = await profile_of(store)
    assert (response.status, profile.region, profile.currency, profile.sealed_values) == (200, "", "NOK", "")
    assert (await visitor.post(PATH, {**form, "reason": "x"})).status == 422


async def test_form_needs_a_reason(client: TestClient, store: PortalStore) -> None:
    visitor = await Visitor.signed_in(client, Role.ADMIN)
    assert (await visitor.post(PATH, {"region": "NO", "reason": " "})).status == 422
    assert (await profile_of(store)).is_empty


async def test_settings_are_escaped(client: TestClient) -> None:
    await post(client, Role.ADMIN, {"name": HOSTILE_HTML, "own": {"greeting": HOSTILE_HTML}})
    for path in (PATH, "/console/portals/11"):
        assert HOSTILE_HTML not in (await (await Visitor.signed_in(client, Role.ADMIN)).get(path))[1]


async def test_lost_key_is_named(own_environ: dict[str, str], client: TestClient) -> None:
    await post(client, Role.ADMIN, {"own": {"greeting": "Hei"}})
    async with (
        running_console({**own_environ, "SECRETS_KEY": "f" * 32}) as later,
        later.get(API, headers=authorization(later, Role.ADMIN)) as response,
    ):
        assert (response.status, "SECRETS_KEY" in await response.text()) == (503, True)
