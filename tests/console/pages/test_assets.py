"""Stylesheet, script and icon."""

from aiohttp.test_utils import TestClient


async def test_only_listed_assets_are_served(client: TestClient) -> None:
    async with client.get("/console/static/..%2Fnow.py") as other, client.get("/console/static/console.css") as style:
        assert (other.status, style.status, style.content_type) == (404, 200, "text/css")


async def test_cached_asset_is_304(client: TestClient) -> None:
    async with client.get("/console/static/live.js") as first:
        tag = first.headers["ETag"]
    async with client.get("/console/static/live.js", headers={"If-None-Match": tag}) as second:
        assert second.status == 304
