"""Login by an identity provider in a real Chromium, across two sites: localhost and 127.0.0.1 count as two."""

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from spokes.console.accounts.sessions import COOKIE
from tests.browser.chromium import chromium
from tests.browser.deployment import running_deployment
from tests.support.identity_provider import IdentityProvider

TIMEOUT_S = 30


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """Run a provider on a second event loop, since selenium blocks."""
    loop, idp = asyncio.new_event_loop(), IdentityProvider(shows_consent_page=True)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(idp.server.start_server(), loop).result(TIMEOUT_S)
        yield idp
    finally:
        asyncio.run_coroutine_threadsafe(idp.server.close(), loop).result(TIMEOUT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_provider_login_sets_a_strict_session_cookie() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="spokes-browser-") as folder,
        tempfile.TemporaryDirectory(prefix="spokes-profile-") as profile,
        identity_provider() as idp,
        running_deployment(Path(folder), overrides={**idp.environ(), "PUBLIC_URL": "ADDRESS"}) as console,
        chromium(Path(profile)) as driver,
    ):
        driver.get(console.address + "/console")
        driver.find_element(By.LINK_TEXT, "Log in with your identity provider").click()
        WebDriverWait(driver, TIMEOUT_S).until(lambda driver: driver.current_url.startswith(idp.issuer))
        driver.find_element(By.LINK_TEXT, "Yes, that is me").click()
        WebDriverWait(driver, TIMEOUT_S).until(
            lambda driver: "Backlog" in driver.find_element(By.TAG_NAME, "main").text
        )
        assert driver.current_url == console.address + "/console"
        assert "oidc:ada@example.com" in driver.find_element(By.CSS_SELECTOR, ".who").text
        [cookie] = driver.get_cookies()
        assert (cookie["name"], cookie["sameSite"], cookie["httpOnly"]) == (COOKIE, "Strict", True)
