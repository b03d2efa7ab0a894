"""Make the pictures of every page in docs/images, from the demo day; two of them also dark, and as on a phone.

make screenshots
"""

import argparse
import base64
import tempfile
from pathlib import Path

from selenium import webdriver

from spokes.console.accounts.policy import Role
from tests.browser.chromium import chromium, look, sign_in
from tests.browser.demo_day import CONTACT, LETTER, PORTAL, calls
from tests.browser.deployment import deployment
from tests.support.deployment import ROOT

PAGES = {
    "now": "/console", "object": f"/console/object?q={CONTACT}", "dead-letters": "/console/dead",
    "dead-letter": f"/console/dead/{PORTAL}/{LETTER}", "audit": "/console/audit", "privacy": "/console/privacy",
    "settings": "/console/settings",
}  # fmt: skip
MORE = ("now", "object")  # also in the other looks; all are with --all
LOOKS = {"": (1280, False), "-dark": (1280, True), "-phone": (390, False)}
HIGHEST = 2200


def take(driver: webdriver.Chrome, place: Path) -> None:
    """Save the whole page, however long."""
    height = int(driver.execute_script("return document.documentElement.scrollHeight"))
    width = int(driver.execute_script("return document.documentElement.clientWidth"))
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, HIGHEST), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    place.write_bytes(base64.b64decode(shot["data"]))


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--all", action="store_true", help="every page in every look")
    arguments = parser.parse_args()
    images = arguments.folder
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spokes-browser-") as folder:
        place = Path(folder)
        with deployment(place / "data") as console, chromium(place / "profile") as driver:
            sign_in(driver, console.address, console.cookie(Role.ADMIN))
            for name, path in PAGES.items():
                for ending, (width, dark) in LOOKS.items():
                    if ending and not arguments.all and name not in MORE:
                        continue
                    look(driver, width=width, height=800, dark=dark)
                    console.on_redis(calls)
                    driver.get(console.address + path)
                    take(driver, images / f"console-{name}{ending}.png")
                    print(f"console-{name}{ending}.png")


if __name__ == "__main__":
    main()
