"""A headless Chromium with a fresh profile and no background network traffic."""

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
    """Run a browser; CHROMIUM and CHROMEDRIVER give the executables if they are not on the PATH."""
    options = Options()
    options.binary_location = _executable("CHROMIUM", "chromium", "chromium-browser", "google-chrome")
    for flag in (*_FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(_executable("CHROMEDRIVER", "chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def sign_in(driver: webdriver.Chrome, address: str, cookie: str) -> None:
    """Set the session cookie in the browser."""
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


def set_screen(driver: webdriver.Chrome, *, width: int, height: int = 900, dark: bool = False) -> None:
    """Set the screen size and the colour scheme."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})


def _executable(variable: str, *names: str) -> str:
    path = os.environ.get(variable) or next((executable for name in names if (executable := which(name))), None)
    if path is None:
        raise SystemExit(
            f"{names[0]} is not installed. Install it (Debian: chromium, chromium-driver) or set {variable}."
        )
    return path
