"""The token service against the simulator over HTTP, with a real Valkey and SQLite."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from pydantic import SecretStr

from spokes.core import clock
from spokes.core.errors import AuditUnavailable, CRMUnavailable, NoCredentials
from spokes.core.redis import keys
from spokes.core.redis.keys import ALERTS_ACTIVE
from spokes.core.vault import Vault
from spokes.portals.pending_tokens import PendingTokens, PendingTokenStore
from spokes.portals.store import REFRESH_INTERRUPTED, PortalState, PortalStore
from spokes.portals.token_service import TokenService
from spokes.portals.tokens import Tokens
from spokes.simulator.api.faults import Fault
from spokes.simulator.config import Latency, OAuthConfig
from tests.portals.conftest import AppWorld

PORTAL, OTHER = 700100, 700200
ROTATING: Final = OAuthConfig(rotates_refresh_tokens=True)
TOKEN_ENDPOINT = "/oauth/*/token"


async def portal_of(service: TokenService, portal_id: int) -> object:
    """Return the portal that HubSpot names for the token that the service gives to a portal."""
    client = await service.client(portal_id)
    return (await client.call("GET", "/account-info/2026-09/details")).body["portalId"]


async def active_alerts(world: AppWorld) -> set[str]:
    return {name.decode() for name in await world.redis.hkeys(ALERTS_ACTIVE)}  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_each_portal_is_called_with_its_own_token(world: AppWorld) -> None:
    await world.install(PORTAL)
    await world.install(OTHER)
    service = await world.service()
    assert [await portal_of(service, portal_id) for portal_id in (PORTAL, OTHER)] == [PORTAL, OTHER]
    assert world.refreshes(PORTAL) == 0


async def test_portal_that_never_installed_the_app_has_no_credentials(world: AppWorld) -> None:
    service = await world.service()
    assert PORTAL not in service.portals
    with pytest.raises(NoCredentials):
        await service.client(PORTAL)


async def test_start_touches_no_tokens(world: AppWorld) -> None:
    for portal_id in range(PORTAL, PORTAL + 20):
        await world.install(portal_id, expires_in_s=-60)
    service = await world.service()
    assert len(service.portals) == 20
    assert len(world.hub.requests) == 0


async def test_expired_token_is_refreshed_before_its_use(world: AppWorld) -> None:
    before = await world.install(PORTAL, expires_in_s=-60)
    service = await world.service()
    assert await portal_of(service, PORTAL) == PORTAL
    after = await world.portal(PORTAL)
    assert (world.refreshes(PORTAL), after.generation) == (1, before.generation + 1)
    assert after.token_expires_at > clock.now_ms() + 1_700_000


async def test_ageing_token_is_refreshed_beside_its_use(world: AppWorld) -> None:
    await world.install(PORTAL, expires_in_s=120)
    world.hub.faults.add(Fault(path=TOKEN_ENDPOINT, latency=Latency(300)))
    service = await world.service()
    first = await service.client(PORTAL)
    assert await service.client(PORTAL) is first  # the refresh is in flight

    async def is_renewed() -> bool:
        return await service.client(PORTAL) is not first

    await world.wait_until(is_renewed)
    assert world.refreshes(PORTAL) == 1


@pytest.mark.parametrize("oauth_config", [OAuthConfig(), ROTATING], ids=["same", "rotating"])
async def test_processes_refresh_a_token_once_together(world: AppWorld) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    services = [await world.service() for _ in range(3)]
    portals = await asyncio.gather(*(portal_of(service, PORTAL) for service in services * 5))
    assert set(portals) == {PORTAL}
    assert world.refreshes(PORTAL) == 1


@pytest.mark.parametrize("oauth_config", [ROTATING])
async def test_rotated_refresh_token_is_stored(world: AppWorld) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    service = await world.service()
    for _ in range(3):
        await portal_of(service, PORTAL)
        stored = await world.store.read(PORTAL)
        assert stored is not None
        assert stored.tokens is not None
        old = Tokens(stored.tokens.access_token, stored.tokens.refresh_token, 0)
        assert await world.store.replace_tokens(PORTAL, stored.portal.generation, old)
        service = await world.service()
    assert world.refreshes(PORTAL) == 3


async def test_old_token_is_used_while_refreshes_fail(world: AppWorld) -> None:
    await world.install(PORTAL, expires_in_s=120)
    world.hub.faults.add(Fault(path=TOKEN_ENDPOINT, status=503))
    service = await world.service()
    for _ in range(5):
        assert await portal_of(service, PORTAL) == PORTAL
        await asyncio.sleep(0.02)
    assert len(world.hub.requests.find(path=TOKEN_ENDPOINT)) < 5  # the portal backs off
    assert (await world.portal(PORTAL)).state is PortalState.INSTALLED


@pytest.mark.parametrize("status", [423, 429, 477, 500, 503])
async def test_transient_refusal_marks_no_portal(world: AppWorld, status: int) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    world.hub.faults.add(Fault(path=TOKEN_ENDPOINT, status=status))
    service = await world.service()
    for _ in range(3):
        with pytest.raises(CRMUnavailable):
            await service.client(PORTAL)
    assert (await world.portal(PORTAL)).state is PortalState.INSTALLED
    assert len(world.hub.requests.find(path=TOKEN_ENDPOINT)) == 1
    assert await active_alerts(world) == set()


async def test_limit_of_the_token_endpoint_holds_up_all_portals(world: AppWorld) -> None:
    for portal_id in (PORTAL, OTHER):
        await world.install(portal_id, expires_in_s=-60)
    world.hub.faults.add(Fault(path=TOKEN_ENDPOINT, status=429, retry_after="30", times=1))
    service = await world.service()
    for portal_id in (PORTAL, OTHER):
        with pytest.raises(CRMUnavailable):
            await service.client(portal_id)
    assert len(world.hub.requests.find(path=TOKEN_ENDPOINT)) == 1
    assert await world.redis.pttl(keys.APP_BACKOFF) > 25_000


async def test_revoked_portal_needs_a_reinstall_and_is_left_alone(world: AppWorld) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    await world.install(OTHER)
    world.hub.installs.uninstall(PORTAL)
    service = await world.service()
    for _ in range(3):
        with pytest.raises(NoCredentials):
            await service.client(PORTAL)
    portal = await world.portal(PORTAL)
    assert (portal.state, portal.reason) == (PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    assert len(world.hub.requests.find(path=TOKEN_ENDPOINT)) == 1
    assert await active_alerts(world) == {f"needs_reinstall:{PORTAL}"}
    assert service.portals == {OTHER}


@pytest.mark.parametrize("oauth_config", [ROTATING])
async def test_portal_whose_new_tokens_were_lost_has_a_reason_of_its_own(world: AppWorld) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    world.hub.faults.add(Fault(path=TOKEN_ENDPOINT, reset=True, after_effect=True, times=1))
    service = await world.service()
    with pytest.raises(CRMUnavailable):
        await service.client(PORTAL)
    await world.redis.delete(keys.refresh_backoff(PORTAL))  # its time is over
    with pytest.raises(NoCredentials):
        await service.client(PORTAL)
    assert (await world.portal(PORTAL)).reason == REFRESH_INTERRUPTED
    (details,) = await world.redis.hvals(ALERTS_ACTIVE)  # type: ignore[misc]  # redis-py types one class for sync and async
    assert REFRESH_INTERRUPTED.encode() in details


@pytest.mark.parametrize("fault", [
    Fault(path=TOKEN_ENDPOINT, status=429, times=1),
    Fault(path=TOKEN_ENDPOINT, reset=True, after_effect=True, times=1),
], ids=["refused", "interrupted, then repeated"])  # fmt: skip
async def test_portal_that_removes_the_app_later_has_the_usual_reason(world: AppWorld, fault: Fault) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    world.hub.faults.add(fault)
    service = await world.service()
    with pytest.raises(CRMUnavailable):
        await service.client(PORTAL)
    await world.redis.delete(keys.refresh_backoff(PORTAL))  # its time is over
    client = await service.client(PORTAL) if fault.reset else None
    world.hub.installs.uninstall(PORTAL)
    with pytest.raises(NoCredentials):
        await (service.client(PORTAL) if client is None else service.renew(PORTAL, client))
    assert (await world.portal(PORTAL)).reason == "bad_refresh_token"


async def test_portal_that_is_gone_needs_a_reinstall(world: AppWorld) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    world.hub.installs.uninstall(PORTAL, is_hub_gone=True)
    service = await world.service()
    with pytest.raises(NoCredentials):
        await service.client(PORTAL)
    assert (await world.portal(PORTAL)).reason == "bad_hub"


async def test_revocation_is_noticed_by_a_refused_call(world: AppWorld) -> None:
    await world.install(PORTAL)
    service = await world.service()
    client = await service.client(PORTAL)
    world.hub.installs.uninstall(PORTAL)
    with pytest.raises(NoCredentials):
        await service.renew(PORTAL, client)
    assert (await world.portal(PORTAL)).state is PortalState.NEEDS_REINSTALL


async def test_refused_app_marks_no_portal(world: AppWorld) -> None:
    for portal_id in (PORTAL, OTHER):
        await world.install(portal_id, expires_in_s=-60)
    world.hub.installs.refuses_client = True
    service = await world.service()
    for portal_id in (PORTAL, OTHER):
        with pytest.raises(CRMUnavailable) as refused:
            await service.client(portal_id)
        assert (refused.value.retry_after_s or 0) > 5  # its events wait as long as the refreshes
        assert (await world.portal(portal_id)).state is PortalState.INSTALLED
    assert await active_alerts(world) == {"oauth_app_refused"}
    assert len(world.hub.requests.find(path=TOKEN_ENDPOINT)) == 1  # a refusal is the app's, not the portal's
    world.hub.installs.refuses_client = False
    await world.redis.delete(keys.APP_BACKOFF)  # its time is over
    assert await portal_of(service, OTHER) == OTHER
    assert await active_alerts(world) == set()


async def test_refreshes_wait_longer_while_the_app_is_refused_again(world: AppWorld) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    world.hub.installs.refuses_client = True
    service = await world.service()
    waits = []
    for _ in range(4):
        await world.redis.delete(keys.APP_BACKOFF)
        with pytest.raises(CRMUnavailable):
            await service.client(PORTAL)
        waits.append(await world.redis.pttl(keys.APP_BACKOFF) / 1000)
    assert waits == sorted(waits)
    assert 80 < waits[-1] < 160


async def test_refreshes_that_are_refused_together_count_as_one_refusal(world: AppWorld) -> None:
    portals = range(PORTAL, PORTAL + 12)
    for portal_id in portals:
        await world.install(portal_id, expires_in_s=-60)
    world.hub.installs.refuses_client = True
    world.hub.faults.add(Fault(path=TOKEN_ENDPOINT, latency=Latency(300)))
    services = [await world.service(), await world.service()]
    calls = [services[portal_id % 2].client(portal_id) for portal_id in portals]
    assert all(isinstance(each, CRMUnavailable) for each in await asyncio.gather(*calls, return_exceptions=True))
    assert len(world.hub.requests.find(path=TOKEN_ENDPOINT)) > 2
    assert await world.redis.pttl(keys.APP_BACKOFF) < 20_000  # the first wait, not a longer one
    await world.redis.delete(keys.APP_BACKOFF)
    with pytest.raises(CRMUnavailable) as again:
        await services[0].client(PORTAL)
    assert (again.value.retry_after_s or 0) < 40  # the second one


async def test_install_during_a_refused_refresh_is_not_marked(world: AppWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    world.hub.installs.uninstall(PORTAL)
    mark = PortalStore.mark

    async def mark_after_install(
        store: PortalStore, portal_id: int, state: PortalState, reason: str, *, generation: int | None = None
    ) -> bool:
        await world.install(PORTAL)
        return await mark(store, portal_id, state, reason, generation=generation)

    monkeypatch.setattr(PortalStore, "mark", mark_after_install)
    service = await world.service()
    assert await portal_of(service, PORTAL) == PORTAL
    assert (await world.portal(PORTAL)).state is PortalState.INSTALLED


@pytest.mark.parametrize("oauth_config", [ROTATING])
async def test_tokens_are_stored_once_sql_answers_again(world: AppWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    replace, failures = PortalStore.replace_tokens, iter(range(3))

    async def replace_later(store: PortalStore, portal_id: int, expected_generation: int, tokens: Tokens) -> bool:
        if next(failures, None) is not None:
            raise AuditUnavailable
        return await replace(store, portal_id, expected_generation, tokens)

    monkeypatch.setattr(PortalStore, "replace_tokens", replace_later)
    service = await world.service()
    assert await portal_of(service, PORTAL) == PORTAL
    assert (world.refreshes(PORTAL), (await world.portal(PORTAL)).generation) == (1, 2)
    assert not await world.redis.exists(f"{keys.SEALED_PREFIX}{PORTAL}")


@pytest.mark.parametrize("oauth_config", [ROTATING])
async def test_tokens_that_a_killed_process_could_not_store_are_not_lost(
    world: AppWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install(PORTAL, expires_in_s=-60)

    async def unavailable(*_: object) -> bool:
        raise AuditUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(PortalStore, "replace_tokens", unavailable)
        killed = await world.service()
        task = asyncio.create_task(killed.client(PORTAL))

        async def is_pending() -> bool:
            return bool(await world.redis.exists(f"{keys.SEALED_PREFIX}{PORTAL}"))

        await world.wait_until(is_pending)
        for pending in (task, *killed._tasks.values()):
            pending.cancel()
        await asyncio.gather(task, *killed._tasks.values(), return_exceptions=True)
    sealed = await world.redis.hgetall(f"{keys.SEALED_PREFIX}{PORTAL}")  # type: ignore[misc]  # as above
    assert b"refresh-" not in b"".join(sealed.values())
    assert await portal_of(await world.service(), PORTAL) == PORTAL
    assert world.refreshes(PORTAL) == 1
    assert (await world.portal(PORTAL)).state is PortalState.INSTALLED


async def test_pending_tokens_that_cannot_be_read_are_not_replaced_by_a_refresh(world: AppWorld) -> None:
    await world.install(PORTAL, expires_in_s=-60)
    other_key = PendingTokenStore(world.redis, Vault(["the-newer-key-that-this-process-lacks"]))
    tokens = Tokens(SecretStr("access"), SecretStr("refresh"), 0)
    await other_key.put(PORTAL, PendingTokens(1, tokens))
    with pytest.raises(CRMUnavailable):
        await (await world.service()).client(PORTAL)
    assert (world.refreshes(PORTAL), (await world.portal(PORTAL)).state) == (0, PortalState.INSTALLED)
    await other_key.delete(PORTAL)
    assert await portal_of(await world.service(), PORTAL) == PORTAL


async def test_token_that_expired_earlier_than_our_clock_says_is_renewed(world: AppWorld) -> None:
    await world.install(PORTAL)
    service = await world.service()
    client = await service.client(PORTAL)
    world.hub.installs.expire_access_tokens(PORTAL)
    renewed = await asyncio.gather(*(service.renew(PORTAL, client) for _ in range(5)))
    assert {id(new) for new in renewed} == {id(renewed[0])}
    assert renewed[0] is not None
    assert renewed[0] is not client
    assert await portal_of(service, PORTAL) == PORTAL
    assert world.refreshes(PORTAL) == 1


async def test_new_tokens_that_are_refused_too_are_not_refreshed_again(world: AppWorld) -> None:
    await world.install(PORTAL)
    service = await world.service()
    first = await service.client(PORTAL)
    second = await service.renew(PORTAL, first)
    assert second is not None
    assert await service.renew(PORTAL, second) is None
    assert world.refreshes(PORTAL) == 1


@pytest.mark.parametrize("ahead_s", [-900, 900])
async def test_processes_with_other_clocks_share_tokens(
    world: AppWorld, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    await world.install(PORTAL)
    monkeypatch.setattr(clock, "now_ms", lambda now=clock.now_ms: now() + ahead_s * 1000)
    assert await portal_of(await world.service(), PORTAL) == PORTAL
    assert (await world.portal(PORTAL)).state is PortalState.INSTALLED


async def test_refreshes_of_all_portals_are_limited(world: AppWorld) -> None:
    portals = range(PORTAL, PORTAL + 6)
    for portal_id in portals:
        await world.install(portal_id, expires_in_s=-60)
    services = [await world.service(refreshes_per_s=3) for _ in range(2)]
    await asyncio.gather(*(portal_of(services[portal_id % 2], portal_id) for portal_id in portals))
    times = sorted(call.at_ms for call in world.hub.requests.find(path=TOKEN_ENDPOINT))
    assert len(times) == 6
    assert times[3] - times[0] > 700


async def test_paused_portal_keeps_its_credentials(world: AppWorld) -> None:
    await world.install(PORTAL)
    await world.store.mark(PORTAL, PortalState.PAUSED, "operator")
    service = await world.service()
    assert PORTAL in service.portals
    assert await portal_of(service, PORTAL) == PORTAL


async def test_uninstalled_portal_has_no_credentials(world: AppWorld) -> None:
    await world.install(PORTAL)
    service = await world.service()
    await world.store.mark(PORTAL, PortalState.UNINSTALLED, "disconnected")
    await service.directory.refresh()
    assert PORTAL in service.directory.uninstalled
    assert PORTAL not in service.portals


async def test_unreachable_sql_marks_and_parks_nothing(world: AppWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.install(PORTAL)
    service = await world.service()

    @asynccontextmanager
    async def unavailable(_: object) -> AsyncIterator[None]:
        raise AuditUnavailable
        yield

    monkeypatch.setattr("spokes.portals.store.read_connection", unavailable)
    await service.directory.refresh()
    assert PORTAL in service.portals
    with pytest.raises(CRMUnavailable):
        await service.client(PORTAL)


async def test_no_token_is_logged_or_kept_in_redis(world: AppWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await world.install(PORTAL, expires_in_s=-60)
    await portal_of(await world.service(), PORTAL)
    world.hub.installs.uninstall(PORTAL)
    stored = await world.store.read(PORTAL)
    assert stored is not None
    assert stored.tokens is not None
    texts = [stored.tokens.access_token.get_secret_value(), stored.tokens.refresh_token.get_secret_value()]
    dumps = [str(await world.redis.dump(key)) for key in await world.redis.keys("*")]
    for text in texts:
        assert text not in caplog.text
        assert all(text not in dump for dump in dumps)
