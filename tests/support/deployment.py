"""The deployment under test: its secrets and URL, its web process run in this process, and HubSpot's signatures."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

from aiohttp.test_utils import TestServer
from aiohttp.web_runner import BaseRunner

from ingest.app import create_app
from ingest.server.http_server import app_runner
from spokes.core import clock
from spokes.core.settings import Settings

ROOT = Path(__file__).parents[2]  # of the project
SECRET = "3f6d0c2e-8b1a-4e57-9c34-7a5e2d10b9f8"
PUBLIC_URL = "https://hooks.example.com"
TOKEN = "not-a-real-token-but-long-enough"
KEY = "a-key-for-tests-1f7c3a9e5b2d8046"

Sign = Callable[..., dict[str, str]]


def sign_headers(
    body: bytes, *, uri: str = f"{PUBLIC_URL}/webhooks/hubspot", secret: str = SECRET, at_ms: int | None = None
) -> dict[str, str]:
    """Return the headers HubSpot sends with `body`: signatures v1 and v3 side by side."""
    timestamp = str(clock.now_ms() if at_ms is None else at_ms)
    text_ = b"POST" + uri.encode() + body + timestamp.encode()
    return {
        "Content-Type": "application/json",
        "X-HubSpot-Signature": hashlib.sha256(secret.encode() + body).hexdigest(),
        "X-HubSpot-Signature-Version": "v1",
        "X-HubSpot-Request-Timestamp": timestamp,
        "X-HubSpot-Signature-v3": base64.b64encode(hmac.digest(secret.encode(), text_, "sha256")).decode(),
    }


class WebProcessServer(TestServer):
    """The web process with its own HTTP server, in this process and on a free port."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(create_app(settings))

    async def _make_runner(self, **_: object) -> BaseRunner:
        return app_runner(self.app, graceful_s=1.0)
