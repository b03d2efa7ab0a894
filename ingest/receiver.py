"""The steps from a signed request to 202, in order. 202 means that every allowed event of it is safe in Redis.

Attributes are bound once, in `__init__`: nearly every request takes these steps, and repeated lookups would cost as
much as the steps themselves.
"""

from aiohttp import web
from redis.exceptions import RedisError

from ingest.body_reader import BodyReader
from spokes.core import clock
from spokes.core.errors import QueueUnavailable, RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import check_sender
from spokes.core.settings import Settings
from spokes.core.signature import match_signature, read_signature
from spokes.core.telemetry.alerts import Alert
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.backpressure import Backpressure
from spokes.intake.body_parser import parse_body
from spokes.intake.classification import ClassifiedDelivery, Summary, classify, summary
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import FastPath
from spokes.queue.quarantine import NO_PORTAL, NewContent, Quarantine


class Receiver:
    """Receives webhook requests."""

    def __init__(
        self,
        settings: Settings,
        allow_list: AllowList,
        keys: EventKeys,
        *,
        body_reader: BodyReader,
        backpressure: Backpressure,
        admission: Admission,
        quarantine: Quarantine,
    ) -> None:
        self._settings = settings
        self._read_body = body_reader.read
        self._checks_sender = bool(settings.trusted_proxies or settings.allowed_addresses)
        self._url = settings.public_url
        self._secrets = settings.client_secrets
        self._versions = settings.signature_versions
        self._allow_list = allow_list
        self._keys = keys
        self._fast_path = FastPath(allow_list, keys, settings.portal_ids)
        self._backpressure = backpressure
        self._admission = admission
        self._quarantine = quarantine

    async def receive(self, request: web.BaseRequest, request_id: str) -> Summary:
        """Admit the events of a request; return how many had which result.

        Raises:
            RejectedRequest: the request is not HubSpot's, not fresh, or not readable.
            QueueUnavailable: Redis did not confirm, or is full.
        """
        settings = self._settings
        self._backpressure.check_request()
        if self._checks_sender:
            check_sender(
                request.headers, request.remote, proxies=settings.trusted_proxies, networks=settings.allowed_addresses
            )
        now_ms = clock.now_ms()
        signature = read_signature(
            request.headers,
            now_ms=now_ms,
            versions=self._versions,
            max_age_s=settings.signature_max_age_s,
            max_skew_s=settings.signature_max_skew_s,
        )
        body = await self._read_body(request, settings.max_body_bytes)
        match_signature(
            signature, method=request.method, uri=self._url + request.raw_path, body=body, secrets=self._secrets
        )
        try:
            deliveries = self._classify(body, request.headers.get("Content-Type"), now_ms)
        except RejectedRequest as refused:
            content = NewContent(NO_PORTAL, self._keys.for_content(body), refused.reason.value, body)
            await self._keep("", content, alert=Alert.SIGNED_REQUEST_UNREADABLE)
            raise
        for delivery in deliveries:
            if delivery.malformed:
                await self._keep(delivery.id, *delivery.malformed, alert=Alert.ELEMENTS_QUARANTINED)
        return summary(await self._admission.admit_together(deliveries, request_id))

    async def _keep(self, delivery_id: str, *contents: NewContent, alert: Alert) -> None:
        """Keep what cannot run now; without a confirmation by Redis, HubSpot must send it again."""
        try:
            await self._quarantine.keep(contents, delivery_id=delivery_id, alert=alert)
        except (RedisError, OSError, TimeoutError) as error:
            raise QueueUnavailable from error

    def _classify(self, body: bytes, content_type: str | None, now_ms: int) -> list[ClassifiedDelivery]:
        """Classify the body: in one pass if it is a common one, element by element otherwise.

        Raises:
            RejectedRequest: the body is not JSON, or cannot be split into elements.
            QueueUnavailable: too much is queued.
        """
        if content_type is not None and "json" not in content_type.partition(";")[0].lower():
            raise RejectedRequest(Refusal.CONTENT_TYPE)
        if self._backpressure.accepts_all and (deliveries := self._fast_path.classify(body, now_ms)):
            return deliveries
        parsed = parse_body(body)
        self._backpressure.check_events(parsed.events)
        portal_ids = self._settings.portal_ids
        return classify(parsed, allow_list=self._allow_list, keys=self._keys, portal_ids=portal_ids, now_ms=now_ms)
