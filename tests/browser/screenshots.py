"""Take screenshots of every page for docs/images, with the demo day's data; two pages also dark and on a phone.

make screenshots
"""

import argparse
import base64
import tempfile
from pathlib import Path

from selenium import webdriver

from spokes.console.accounts.policy import Role
from tests.browser.chromium import chromium, set_screen, sign_in
from tests.browser.demo_day import CONTACT, LETTER, PORTAL, use_rate_budget
from tests.browser.deployment import running_deployment
from tests.support.deployment import ROOT

PAGES = {
    "now": "/console", "object": f"/console/object?q={CONTACT}", "dead-letters": "/console/dead",
    "dead-letter": f"/console/dead/{PORTAL}/{LETTER}", "audit": "/console/audit", "privacy": "/console/privacy",
    "settings": "/console/settings",
}  # fmt: skip
EVERY_SCREEN = ("now", "object")  # pages taken on every screen; with --all, all of them
SCREENS = {"": (1280, False), "-dark": (1280, True), "-phone": (390, False)}
MAX_HEIGHT = 2200


def save_screenshot(driver: webdriver.Chrome, path: Path) -> None:
    """Save a screenshot of the whole page, at most MAX_HEIGHT high."""
    height = int(driver.execute_script("return document.documentElement.scrollHeight"))
    width = int(driver.execute_script("return document.documentElement.clientWidth"))
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, MAX_HEIGHT), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(shot["data"]))


def main() -> None:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--all", action="store_true", help="every page on every screen")
    arguments = parser.parse_args()
    images = arguments.folder
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spokes-browser-") as folder:
        workspace = Path(folder)
        with running_deployment(workspace / "data") as console, chromium(workspace / "profile") as driver:
            sign_in(driver, console.address, console.session_cookie(Role.ADMIN))
            for name, path in PAGES.items():
                for suffix, (width, dark) in SCREENS.items():
                    if suffix and not arguments.all and name not in EVERY_SCREEN:
                        continue
                    set_screen(driver, width=width, height=800, dark=dark)
                    console.run_on_redis(use_rate_budget)
                    driver.get(console.address + path)
                    save_screenshot(driver, images / f"console-{name}{suffix}.png")
                    print(f"console-{name}{suffix}.png")


if __name__ == "__main__":
    main()
