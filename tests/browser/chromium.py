"""A real Chromium without a window. Rule: a fresh profile each time, and nothing asked of the internet."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Final

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from spokes.console.accounts.sessions import COOKIE

_FLAGS: Final = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--disable-dev-shm-usage",
)  # fmt: skip


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Run a browser; CHROMIUM and CHROMEDRIVER say where they are when they are not on the path."""
    options = Options()
    options.binary_location = _place("CHROMIUM", "chromium", "chromium-browser", "google-chrome")
    for flag in (*_FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(_place("CHROMEDRIVER", "chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def sign_in(driver: webdriver.Chrome, address: str, cookie: str) -> None:
    """Give the browser the cookie of a session."""
    driver.execute_cdp_cmd(
        "Network.setCookie",
        {
            "name": COOKIE,
            "value": cookie,
            "url": address,
            "secure": True,
            "httpOnly": True,
            "sameSite": "Strict",
            "path": "/",
        },
    )


def look(driver: webdriver.Chrome, *, width: int, height: int = 900, dark: bool = False) -> None:
    """Let pages be shown on a screen of this size, in light or dark."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})


def _place(variable: str, *names: str) -> str:
    found = os.environ.get(variable) or next((path for name in names if (path := which(name))), None)
    if found is None:
        raise SystemExit(
            f"There is no {names[0]} here; install it (Debian: chromium, chromium-driver) or set {variable}."
        )
    return found
