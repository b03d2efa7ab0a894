"""A customer's browser: it installs the app in a portal of the simulator, through the deployment's public URL."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp


class InstallFailed(Exception):
    """The install did not end as expected; the text names the step."""


async def install_app(base: str, public_url: str, portal_id: int) -> None:
    """Install the app by OAuth, from the install link to the page that confirms it.

    Args:
        base: where the deployment listens.
        public_url: how browsers call it, through a proxy that this function plays too.
        portal_id: the portal that the customer chooses.

    Raises:
        InstallFailed: a step had another answer.
        aiohttp.ClientError, OSError, TimeoutError: the deployment or the simulator did not answer.
    """
    parts = urlsplit(public_url)
    proxied = {"Host": parts.netloc, "X-Forwarded-Proto": parts.scheme, "X-Forwarded-For": "203.0.113.7"}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as browser:
        link = f"{base}/oauth/install?portalId={portal_id}"
        page, cookies = await _follow(browser, "GET", link, proxied)
        callback, _ = await _follow(browser, "POST", page, {}, {"answer": "grant"})
        path = callback.removeprefix(public_url)
        async with browser.get(f"{base}{path}", headers={**proxied, "Cookie": cookies}) as response:
            text = await response.text()
        if not response.ok or str(portal_id) not in text:
            raise InstallFailed(f"the callback answered {response.status}")


async def _follow(
    browser: aiohttp.ClientSession,
    method: str,
    address: str,
    headers: Mapping[str, str],
    form: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """Return the address that a step leads to, and the cookies that it sets."""
    async with browser.request(method, address, headers=headers, data=form, allow_redirects=False) as response:
        if "Location" not in response.headers:
            raise InstallFailed(f"{urlsplit(address).path} answered {response.status}")
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in response.cookies.items())
        return response.headers["Location"], cookies
