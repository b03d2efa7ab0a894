"""The receiver: a signed request in, 202 out once every wanted event of it is safe in Redis. Rule: the steps in order.

What it needs is bound once: nearly every request takes this way, and looking things up on it costs as much as they do.
"""

import asyncio

from aiohttp import web

from spokes.core import clock
from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import check_sender
from spokes.core.settings import Settings
from spokes.core.signature import verify
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.backpressure import Backpressure
from spokes.intake.body_parser import parse_json, split_events
from spokes.intake.classification import ClassifiedDelivery, Summary, classify, summary
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import FastPath


class Receiver:
    """Takes deliveries in."""

    def __init__(
        self,
        settings: Settings,
        allow_list: AllowList,
        keys: EventKeys,
        *,
        backpressure: Backpressure,
        admission: Admission,
    ) -> None:
        self._settings = settings
        self._checks_sender = bool(settings.trusted_proxies or settings.allowed_addresses)
        self._url = settings.public_url
        self._secrets = settings.client_secrets
        self._versions = settings.signature_versions
        self._allow_list = allow_list
        self._keys = keys
        self._fast_path = FastPath(allow_list, keys, settings.portal_ids)
        self._backpressure = backpressure
        self._admission = admission

    async def receive(self, request: web.BaseRequest) -> Summary:
        """Take a delivery in; return what became of its events.

        Raises:
            RejectedRequest: it is not HubSpot's, not fresh, or not readable.
            QueueUnavailable: Redis did not confirm, or is full.
        """
        settings = self._settings
        self._backpressure.check_request()
        if self._checks_sender:
            check_sender(
                request.headers, request.remote, proxies=settings.trusted_proxies, networks=settings.allowed_addresses
            )
        body = await self._read_body(request)
        now_ms = clock.now_ms()
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
        arrivals = self._classify(body, now_ms)
        return summary([await self._admission.admit(arrival) for arrival in arrivals])

    def _classify(self, body: bytes, now_ms: int) -> list[ClassifiedDelivery]:
        """Read the body: in one pass where it is usual, element by element where anything about it is not."""
        if self._backpressure.accepts_all and (usual := self._fast_path.classify(body, now_ms)):
            return [usual]
        batch = split_events(parse_json(body), body)
        self._backpressure.check_events(batch.events)
        portal_ids = self._settings.portal_ids
        return classify(batch, allow_list=self._allow_list, keys=self._keys, portal_ids=portal_ids, now_ms=now_ms)

    async def _read_body(self, request: web.BaseRequest) -> bytes:
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
