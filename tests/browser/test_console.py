"""The console in a real Chromium. `make test-browser` runs it."""

import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from spokes.console.accounts.users import Users
from spokes.core.redis import keys
from tests.browser.chromium import chromium, set_screen, sign_in
from tests.browser.demo_day import CONTACT, LETTER, PORTAL, add_events
from tests.browser.deployment import Deployment, running_deployment
from tests.support.console_visitor import SEALS

PATHS = {
    "now": "/console", "object": f"/console/object?q={CONTACT}", "object search": "/console/object",
    "dead letters": "/console/dead", "dead letter": f"/console/dead/{PORTAL}/{LETTER}", "audit": "/console/audit",
    "privacy": "/console/privacy", "settings": "/console/settings", "not found": "/console/nowhere",
    "login": "/console/login",
}  # fmt: skip
TIMEOUT_S = 30


@pytest.fixture(scope="module")
def console() -> Iterator[Deployment]:
    with (
        tempfile.TemporaryDirectory(prefix="spokes-browser-") as folder,
        running_deployment(Path(folder), hostile=True) as console,
    ):
        yield console


@pytest.fixture(scope="module")
def browser(console: Deployment) -> Iterator[webdriver.Chrome]:
    with tempfile.TemporaryDirectory(prefix="spokes-profile-") as folder, chromium(Path(folder)) as driver:
        yield driver


@pytest.fixture
def driver(console: Deployment, browser: webdriver.Chrome) -> webdriver.Chrome:
    """A browser with an admin's session, on a desktop screen."""
    set_screen(browser, width=1280)
    sign_in(browser, console.address, console.session_cookie(Role.ADMIN))
    return browser


def wait(driver: webdriver.Chrome, until: Callable[[webdriver.Chrome], object]) -> None:
    WebDriverWait(driver, TIMEOUT_S).until(until)


def main_text(driver: webdriver.Chrome) -> str:
    return driver.find_element(By.TAG_NAME, "main").text


def test_login_opens_the_console_and_logout_closes_it(console: Deployment, driver: webdriver.Chrome) -> None:
    console.run_on_redis(lambda redis: Users(redis, SEALS).put("grace", [Role.OPERATOR], None, "a long pass phrase"))
    sign_in(driver, console.address, "nobody")
    driver.get(console.address + "/console")
    driver.find_element(By.NAME, "name").send_keys("grace")
    driver.find_element(By.NAME, "password").send_keys("a long pass phrase\n")
    wait(driver, lambda driver: "Backlog" in main_text(driver))
    cookie = driver.get_cookie(COOKIE)
    assert cookie is not None
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    driver.find_element(By.XPATH, "//button[text()='Log out']").click()
    wait(driver, lambda driver: driver.current_url.endswith("/console/login"))
    sign_in(driver, console.address, cookie["value"])
    driver.get(console.address + "/console/dead")
    assert driver.current_url.endswith("/console/login")


def test_timeline_is_opened_from_a_hubspot_link(console: Deployment, driver: webdriver.Chrome) -> None:
    driver.get(console.address + "/console")
    driver.find_element(By.LINK_TEXT, "Object").click()
    field = driver.find_element(By.NAME, "q")
    field.send_keys(f"https://app.hubspot.com/contacts/{PORTAL}/record/0-1/{CONTACT}")
    field.submit()
    wait(driver, lambda driver: "Timeline" in main_text(driver))
    timeline = main_text(driver)
    positions = [timeline.index(part) for part in ("Replayed", "Gave up", "Wrote to HubSpot", "Received a delivery")]
    assert positions == sorted(positions)


def test_dead_letter_is_replayed_by_keyboard(console: Deployment, driver: webdriver.Chrome) -> None:
    index = keys.dead_letters_by_time(PORTAL)
    before = console.run_on_redis(lambda redis: redis.zcard(index))
    driver.get(console.address + "/console/dead")
    box = driver.find_element(By.CSS_SELECTOR, "details[open] input[name=letter]")
    box.send_keys(" ")
    form = box.find_element(By.XPATH, "./ancestor::form")
    form.find_element(By.NAME, "reason").send_keys("fixed\n")
    wait(driver, lambda driver: "1 were queued again" in main_text(driver))
    assert console.run_on_redis(lambda redis: redis.zcard(index)) == before - 1


def test_value_is_revealed_as_text_and_audited(console: Deployment, driver: webdriver.Chrome) -> None:
    driver.get(console.address + "/console/dead")
    driver.find_element(By.CSS_SELECTOR, "details[open] tbody a").click()
    wait(driver, lambda driver: "Reveal" in main_text(driver))
    assert "<script>" not in main_text(driver)
    driver.find_element(By.XPATH, "//form[contains(@action, 'reveal')]//input[@name='reason']").send_keys(
        "a complaint\n"
    )
    wait(driver, lambda driver: "has recorded that you saw" in main_text(driver))
    assert "<script>window.broken=1</script>" in main_text(driver)
    assert driver.execute_script("return window.broken") is None


def test_chart_updates_live(console: Deployment, driver: webdriver.Chrome) -> None:
    driver.get(console.address + "/console")
    line = "return document.querySelector('.line.in').getAttribute('d')"
    before = driver.execute_script(line)
    console.run_on_redis(lambda redis: add_events(redis, 900))
    wait(driver, lambda driver: driver.execute_script(line) != before)
    assert driver.find_element(By.CSS_SELECTOR, "[data-live-state]").text == "Live"


def test_role_without_permission_is_refused(console: Deployment, driver: webdriver.Chrome) -> None:
    sign_in(driver, console.address, console.session_cookie(Role.VIEWER, name="grace"))
    driver.get(console.address + "/console/dead")
    assert driver.find_elements(By.XPATH, "//button[text()='Replay']") == []
    driver.get(console.address + "/console/settings")
    assert "Your role does not permit this." in main_text(driver)


def test_ended_session_redirects_to_the_login(console: Deployment, driver: webdriver.Chrome) -> None:
    sign_in(driver, console.address, "a-cookie-that-was-stolen-and-has-ended")
    driver.get(console.address + "/console")
    assert driver.current_url.endswith("/console/login")


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False)], ids=["light", "dark", "phone"])
def test_axe_finds_nothing_serious(
    console: Deployment, driver: webdriver.Chrome, path: str, width: int, dark: bool
) -> None:
    set_screen(driver, width=width, dark=dark)
    driver.get(console.address + path)
    driver.execute_script(axe_script())
    report = driver.execute_async_script("axe.run().then(arguments[0])")
    serious = [violation for violation in report["violations"] if violation["impact"] in {"serious", "critical"}]
    assert [(violation["id"], [node["html"] for node in violation["nodes"]]) for violation in serious] == []
    assert report["passes"]


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_no_injected_script_runs_and_our_own_scripts_are_allowed(
    console: Deployment, driver: webdriver.Chrome, path: str
) -> None:
    driver.get_log("browser")
    driver.get(console.address + path)
    assert driver.execute_script("return window.broken") is None
    assert [line["message"] for line in driver.get_log("browser") if "Content Security Policy" in line["message"]] == []


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_phone_needs_no_sideways_scroll(console: Deployment, driver: webdriver.Chrome, path: str) -> None:
    set_screen(driver, width=360)
    driver.get(console.address + path)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 360


def axe_script() -> str:
    """Return axe-core's script from the wheel that contains it, without importing the wheel's code."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")
