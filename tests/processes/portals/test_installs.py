"""Installs through the public URL of running web processes, against the simulator's OAuth."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest
from redis.asyncio import Redis
from sqlalchemy.engine import make_url

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.console.installs.install_state import STATE_TTL_S, InstallState, StateSigner, new_nonce
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portals.store import PortalStore
from spokes.simulator.app import Simulator
from spokes.simulator.config import OAuthConfig, SimulatorConfig
from spokes.simulator.demo import wait_until_ready
from tests.support.console_visitor import KEY
from tests.support.deployment import SECRET
from tests.support.free_ports import free_port
from tests.support.processes.running_processes import RunningProcesses

PORTALS = (701, 702, 703)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@dataclass
class InstallDeployment:
    """A web process on a port, its HubSpot, its store, and a customer's browser."""

    url: str
    hubspot: Simulator
    store: PortalStore
    browser: aiohttp.ClientSession
    folder: Path
    settings: Settings

    async def start(self) -> str:
        """Start an install; return the page of HubSpot."""
        async with self.browser.get(f"{self.url}/oauth/install", allow_redirects=False) as response:
            assert response.status == 303, await response.text()
            return response.headers["Location"]

    async def consent(self, page: str, portal_id: int) -> str:
        """Authorise for a portal; return the address of the callback."""
        form = {"portal": str(portal_id)}
        async with self.browser.post(page, data=form, allow_redirects=False) as response:
            assert response.status == 302, await response.text()
            return response.headers["Location"]

    async def get(self, address: str) -> tuple[int, str]:
        async with self.browser.get(address, allow_redirects=False) as response:
            return response.status, await response.text()

    def console_pids(self) -> list[int]:
        """Return the processes of the console that belong to this deployment."""
        mark = f"TMPDIR={self.folder}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (process / "cmdline").read_bytes().split(b"\0")
                if b"--with-parent" in arguments and mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:
                continue
        return found


@pytest.fixture
async def deployment(
    redis: Redis, environ: dict[str, str], database_url: str, processes: RunningProcesses, tmp_path: Path
) -> AsyncIterator[InstallDeployment]:
    url = f"http://localhost:{free_port()}"
    async with Simulator(SimulatorConfig(client_secret=SECRET)) as hubspot:
        for portal_id in PORTALS:
            hubspot.add_portal(portal_id)
        settings = {
            **environ,
            "DATABASE_URL": database_url,
            "PUBLIC_URL": url,
            "CONSOLE_KEY": KEY,
            "HUBSPOT_CLIENT_ID": OAuthConfig().client_id,
            "SECRETS_KEY": "3f6d0c2e8b1a4e579c347a5e2d10b9f8",
            "HUBSPOT_APP_URL": hubspot.url,
            "HUBSPOT_API_URL": hubspot.url,
            "HOST": "127.0.0.1",
            "PORT": str(urlsplit(url).port),
            "WEB_CONCURRENCY": "2",
            "TMPDIR": str(tmp_path),
        }
        engine = open_engine(Settings.from_env(settings).database_address)
        await schema.upgrade(engine)
        parsed = Settings.from_env(settings)
        store = PortalStore(engine, Vault.from_settings(parsed))
        processes.start("ingest", settings)
        await wait_until_ready(url)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            running = InstallDeployment(url, hubspot, store, browser, tmp_path, parsed)
            async with asyncio.timeout(60):
                while (await running.get(f"{url}/console/login"))[0] != 200:  # noqa: ASYNC110 - a process sends no event
                    await asyncio.sleep(0.1)
            yield running
        await engine.dispose()


@pytest.mark.slow
@on_sqlite
async def test_customers_install_through_the_public_url(deployment: InstallDeployment) -> None:
    callbacks = [await deployment.consent(await deployment.start(), portal_id) for portal_id in PORTALS]
    for portal_id, callback in zip(PORTALS, callbacks, strict=True):
        status, page = await deployment.get(callback)
        assert (status, f"Installed for portal {portal_id}" in page) == (200, True)
    assert [portal.portal_id for portal in await deployment.store.list()] == list(PORTALS)
    assert (await deployment.get(callbacks[0]))[0] == 400


@pytest.mark.slow
@on_sqlite
async def test_console_killed_before_the_answer_leaves_an_install_that_can_be_repeated(
    deployment: InstallDeployment,
) -> None:
    callback = await deployment.consent(await deployment.start(), PORTALS[0])
    for pid in deployment.console_pids():
        os.kill(pid, signal.SIGKILL)
    status = 503
    async with asyncio.timeout(60):
        while status == 503:
            status, _ = await deployment.get(callback)
            await asyncio.sleep(0.1)
    assert status == 200
    assert [portal.portal_id for portal in await deployment.store.list()] == [PORTALS[0]]


@pytest.mark.slow
@on_sqlite
async def test_callback_with_the_cookie_of_another_browser_installs_nothing(deployment: InstallDeployment) -> None:
    callback = await deployment.consent(await deployment.start(), PORTALS[0])
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as other:
        for _ in range(2):  # without a cookie, then with the cookie of an install of its own
            async with other.get(callback) as response:
                assert (response.status, "started in another browser" in await response.text()) == (403, True)
            async with other.get(f"{deployment.url}/oauth/install", allow_redirects=False) as response:
                assert response.status == 303
    assert await deployment.store.list() == []
    assert (await deployment.get(callback))[0] == 200  # the code and the state are not spent


@pytest.mark.slow
@on_sqlite
async def test_callback_ten_minutes_after_the_start_installs_nothing(
    deployment: InstallDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is signed with the deployment's key, as eleven minutes ago; nothing else differs from a real start."""
    page = await deployment.start()
    [cookie] = [cookie for cookie in deployment.browser.cookie_jar if cookie.key == "spokes-install"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - STATE_TTL_S - 60)
    expired = StateSigner(load_master_key(deployment.settings)).sign(InstallState(new_nonce()), cookie.value)
    monkeypatch.undo()
    callback = urlsplit(await deployment.consent(page, PORTALS[0]))
    code = parse_qs(callback.query)["code"][0]
    address = f"{deployment.url}{callback.path}?{urlencode({'code': code, 'state': expired})}"
    status, text = await deployment.get(address)
    assert (status, "started more than ten minutes ago" in text) == (400, True)
    assert await deployment.store.list() == []


@contextmanager
def stopped_postgresql(database_url: str) -> Iterator[None]:
    """Stop a server as a hanging host does: it accepts connections, and answers nothing."""
    socket_folder = make_url(database_url).query["host"]
    server = int((Path(str(socket_folder)) / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    stopped = [server, *map(int, children)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
@on_postgresql
async def test_page_names_an_audit_store_that_does_not_answer(deployment: InstallDeployment, database_url: str) -> None:
    first, second = [await deployment.consent(await deployment.start(), portal_id) for portal_id in PORTALS[:2]]
    assert (await deployment.get(first))[0] == 200  # the web process has connections to the store
    with stopped_postgresql(database_url):
        async with asyncio.timeout(40):
            status, text = await deployment.get(second)
    assert (status, "audit store" in text, "did not answer for 15 seconds" in text) == (503, True, True)
    callback = await deployment.consent(await deployment.start(), PORTALS[2])
    assert (await deployment.get(callback))[0] == 200
