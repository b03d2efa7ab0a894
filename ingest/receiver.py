"""The receiver: a signed request in, 202 out once every wanted event of it is safe in Redis. Rule: the steps in order.

What it needs is bound once: nearly every request takes this way, and looking things up on it costs as much as they do.
"""

import asyncio
import time

from aiohttp import web

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import admit
from spokes.core.settings import Settings
from spokes.core.signature import verify
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.backpressure import Load
from spokes.intake.body_parser import read, sift
from spokes.intake.classification import Arrival, Summary, sort_out, summary
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import Usual


class Receiver:
    """Takes deliveries in."""

    def __init__(
        self, settings: Settings, allow_list: AllowList, keys: EventKeys, *, load: Load, admission: Admission
    ) -> None:
        self._settings = settings
        self._guarded = bool(settings.trusted_proxies or settings.allowed_addresses)
        self._url = settings.public_url
        self._secrets = settings.client_secrets
        self._versions = settings.signature_versions
        self._allow_list = allow_list
        self._keys = keys
        self._usual = Usual(allow_list, keys, settings.portal_ids)
        self._load = load
        self._admission = admission

    async def receive(self, request: web.BaseRequest) -> Summary:
        """Take a delivery in; return what became of its events.

        Raises:
            RejectedRequest: it is not HubSpot's, not fresh, or not readable.
            QueueUnavailable: Redis did not confirm, or is full.
        """
        settings = self._settings
        self._load.admit_request()
        if self._guarded:
            admit(
                request.headers, request.remote, proxies=settings.trusted_proxies, networks=settings.allowed_addresses
            )
        body = await self._body(request)
        now_ms = time.time_ns() // 1_000_000
        verify(
            method=request.method,
            uri=self._url + request.raw_path,
            body=body,
            headers=request.headers,
            secrets=self._secrets,
            now_ms=now_ms,
            versions=self._versions,
            max_age_s=settings.signature_max_age_s,
            max_skew_s=settings.signature_max_skew_s,
        )
        kind = request.headers.get("Content-Type")
        if kind is not None and "json" not in kind.partition(";")[0].lower():
            raise RejectedRequest(Refusal.CONTENT_TYPE)
        arrivals = self._sorted_out(body, now_ms)
        return summary([await self._admission.admit(arrival) for arrival in arrivals])

    def _sorted_out(self, body: bytes, now_ms: int) -> list[Arrival]:
        """Read the body: in one pass where it is usual, element by element where anything about it is not."""
        if self._load.takes_all and (usual := self._usual.sort_out(body, now_ms)):
            return [usual]
        batch = sift(read(body), body)
        self._load.admit_events(batch.events)
        portal_ids = self._settings.portal_ids
        return sort_out(batch, allow_list=self._allow_list, keys=self._keys, portal_ids=portal_ids, now_ms=now_ms)

    async def _body(self, request: web.BaseRequest) -> bytes:
        """Read the body, as it came; nearly always it is here already."""
        settings = self._settings
        if (request.content_length or 0) > settings.max_body_bytes:
            raise RejectedRequest(Refusal.BODY_TOO_LARGE)
        if request.content.is_eof():
            body = request.content.read_nowait()
        else:
            try:
                async with asyncio.timeout(settings.body_timeout_s):
                    body = await request.read()
            except TimeoutError:
                raise RejectedRequest(Refusal.BODY_TOO_SLOW) from None
        if len(body) > settings.max_body_bytes:  # it did not say how long it would be
            raise RejectedRequest(Refusal.BODY_TOO_LARGE)
        return body
