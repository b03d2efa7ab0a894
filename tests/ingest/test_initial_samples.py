"""Counters of a web process that exist before the first count."""

import re

from aiohttp.test_utils import TestClient

from spokes.core.errors import UNAVAILABLE_REASONS
from spokes.core.refusals import Refusal
from tests.support.deployment import ROOT


async def test_every_refusal_has_a_series_before_the_first_request(client: TestClient) -> None:
    async with client.get("/metrics") as response:
        page = await response.text()
    refused = set(re.findall(r'spokes_requests_total\{reason="(\w+)",status="(?:4..|503)"\}', page))
    assert {reason.value for reason in Refusal} | set(UNAVAILABLE_REASONS) <= refused
    assert 'spokes_requests_total{reason="signature_mismatch",status="401"}' in page
    assert 'spokes_events_total{result="duplicate"}' in page


def test_every_reason_of_a_503_is_listed() -> None:
    text = "\n".join(path.read_text() for name in ("spokes", "ingest") for path in (ROOT / name).rglob("*.py"))
    assert set(re.findall(r'QueueUnavailable\("(\w+)"', text)) | {"queue_unavailable"} == set(UNAVAILABLE_REASONS)
