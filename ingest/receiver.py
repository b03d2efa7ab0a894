"""The steps from a signed request to 202, in order. 202 means that every allowed event of it is safe in Redis.

Attributes are bound once, in `__init__`: nearly every request takes these steps, and repeated lookups would cost as
much as the steps themselves.
"""

from asyncio import Future
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from aiohttp import web
from redis.exceptions import RedisError

from ingest.body_reader import BodyReader
from spokes.core import clock
from spokes.core.errors import QueueUnavailable, RejectedRequest
from spokes.core.events import Event
from spokes.core.refusals import Refusal
from spokes.core.request_guard import check_sender
from spokes.core.settings import Settings
from spokes.core.signature import PresentedSignature, match_signature, read_signature
from spokes.core.telemetry.alerts import Alert
from spokes.gaps.refused_deliveries import RefusedEvent
from spokes.intake.admission import Admission, Answer
from spokes.intake.allow_list import AllowList
from spokes.intake.arrivals import Arrivals
from spokes.intake.backpressure import Backpressure
from spokes.intake.body_parser import parse_body
from spokes.intake.classification import ClassifiedDelivery, Summary, classify, summary
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import FastPath
from spokes.queue.quarantine import NO_PORTAL, NewContent, Quarantine

_JSON_TYPES: Final = frozenset({None, "application/json", "application/json; charset=utf-8"})  # the common ones


class VerifiedRequest(NamedTuple):
    """A request of HubSpot's that has not been parsed."""

    id: str
    body: bytes
    content_type: str | None
    arrived_at: int  # epoch ms


class StartedAdmission(NamedTuple):
    """A common request whose deliveries, all of one portal, are being stored."""

    request_id: str
    deliveries: list[ClassifiedDelivery]
    answer: Future[Answer]


class Receiver:
    """Receives webhook requests.

    `receive` takes all steps. `verify`, `start` and `finish` are the same steps for a request that has arrived
    completely; only the last one waits.
    """

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
        arrivals: Arrivals,
        on_refused: Callable[[Iterable[RefusedEvent]], None],
    ) -> None:
        """`on_refused` is called with the events of a request that Redis cannot take now, as far as they are known."""
        self._settings = settings
        self._read_body = body_reader.read
        self._checks_sender = bool(settings.trusted_proxies or settings.allowed_addresses)
        self._url = settings.public_url
        self._secrets = settings.client_secrets
        self._versions = settings.signature_versions
        self._allow_list = allow_list
        self._keys = keys
        self._fast_path = FastPath(allow_list, keys, settings.portal_ids, arrivals)
        self._backpressure = backpressure
        self._admission = admission
        self._quarantine = quarantine
        self._arrivals = arrivals
        self._on_refused = on_refused

    async def receive(self, request: web.BaseRequest, request_id: str) -> Summary:
        """Admit the events of a request; return how many had which result.

        Raises:
            RejectedRequest: the request is not HubSpot's, not fresh, or not readable.
            QueueUnavailable: Redis did not confirm, or is full.
        """
        now_ms = clock.now_ms()
        signature = self._check_head(request.headers, request.remote, now_ms)
        body = await self._read_body(request, self._settings.max_body_bytes)
        match_signature(
            signature, method=request.method, uri=self._url + request.raw_path, body=body, secrets=self._secrets
        )
        verified = VerifiedRequest(request_id, body, request.headers.get("Content-Type"), now_ms)
        started = self.start(verified)
        return await (self.admit(verified) if started is None else self.finish(started))

    def verify(
        self,
        request_id: str,
        *,
        method: str,
        raw_path: str,
        headers: Mapping[str, str],
        remote: str | None,
        body: bytes,
    ) -> VerifiedRequest:
        """Return a request that has arrived completely, if it is HubSpot's.

        Raises:
            RejectedRequest: the request is not HubSpot's, not fresh, or too large.
            QueueUnavailable: Redis is full.
        """
        now_ms = clock.now_ms()
        signature = self._check_head(headers, remote, now_ms)
        if len(body) > self._settings.max_body_bytes:
            raise RejectedRequest(Refusal.BODY_TOO_LARGE)
        match_signature(signature, method=method, uri=self._url + raw_path, body=body, secrets=self._secrets)
        return VerifiedRequest(request_id, body, headers.get("Content-Type"), now_ms)

    def start(self, request: VerifiedRequest) -> StartedAdmission | None:
        """Begin to store a common request; None if it is another one, or not everything is accepted: see `admit`."""
        if not _is_json(request.content_type) or not self._backpressure.accepts_all:
            return None
        deliveries = self._fast_path.classify(request.body, request.arrived_at)
        if not deliveries:
            return None
        return StartedAdmission(request.id, deliveries, self._admission.start(deliveries, request.id))

    async def finish(self, started: StartedAdmission) -> Summary:
        """Return how many events of a request that has been started had which result.

        Raises:
            QueueUnavailable: Redis did not confirm.
        """
        try:
            answer = await started.answer
            return summary(await self._admission.finish(started.deliveries, started.request_id, answer))
        except QueueUnavailable:
            self._refuse(started.deliveries)
            raise

    async def admit(self, request: VerifiedRequest) -> Summary:
        """Admit the events of a request that `start` did not take; return how many had which result.

        Raises:
            RejectedRequest: the body is not readable; it is kept.
            QueueUnavailable: Redis did not confirm, or is full.
        """
        try:
            deliveries = self._classify(request)
        except RejectedRequest as refused:
            content = NewContent(NO_PORTAL, self._keys.for_content(request.body), refused.reason.value, request.body)
            await self._keep("", content, alert=Alert.SIGNED_REQUEST_UNREADABLE)
            raise
        for delivery in deliveries:
            if delivery.malformed:
                await self._keep(delivery.id, *delivery.malformed, alert=Alert.ELEMENTS_QUARANTINED)
        try:
            return summary(await self._admission.admit_together(deliveries, request.id))
        except QueueUnavailable:
            self._refuse(deliveries)
            raise

    def _check_head(self, headers: Mapping[str, str], remote: str | None, now_ms: int) -> PresentedSignature:
        """Return the signature in `headers`, if the request can be accepted as far as its head shows.

        Raises:
            RejectedRequest, QueueUnavailable: it cannot.
        """
        settings = self._settings
        self._backpressure.check_request()
        if self._checks_sender:
            check_sender(headers, remote, proxies=settings.trusted_proxies, networks=settings.allowed_addresses)
        return read_signature(
            headers,
            now_ms=now_ms,
            versions=self._versions,
            max_age_s=settings.signature_max_age_s,
            max_skew_s=settings.signature_max_skew_s,
        )

    async def _keep(self, delivery_id: str, *contents: NewContent, alert: Alert) -> None:
        """Keep what cannot run now; without a confirmation by Redis, HubSpot must send it again."""
        try:
            await self._quarantine.keep(contents, delivery_id=delivery_id, alert=alert)
        except (RedisError, OSError, TimeoutError) as error:
            raise QueueUnavailable from error

    def _classify(self, request: VerifiedRequest) -> list[ClassifiedDelivery]:
        """Classify the body element by element.

        Raises:
            RejectedRequest: the body is not JSON, or cannot be split into elements.
            QueueUnavailable: too much is queued.
        """
        if not _is_json(request.content_type):
            raise RejectedRequest(Refusal.CONTENT_TYPE)
        parsed = parse_body(request.body)
        deliveries = classify(
            parsed, allow_list=self._allow_list, keys=self._keys, portal_ids=self._settings.portal_ids,
            now_ms=request.arrived_at,
        )  # fmt: skip
        try:
            self._backpressure.check_events(parsed.events)
        except QueueUnavailable:
            self._refuse(deliveries)
            raise
        self._count_arrivals(parsed.events, request.arrived_at)
        return deliveries

    def _refuse(self, deliveries: Iterable[ClassifiedDelivery]) -> None:
        self._on_refused(
            RefusedEvent(delivery.portal_id, event.key, event.occurred_at)
            for delivery in deliveries
            for event in delivery.events
        )

    def _count_arrivals(self, events: Sequence[Event], now_ms: int) -> None:
        if events:
            self._arrivals.count_request(now_ms)
        served = self._settings.portal_ids
        for event in events:
            if served and event.portal_id not in served:
                self._arrivals.count_unserved(event.portal_id, 1)
                continue
            arrival = self._arrivals.of(event)
            arrival.last_at = now_ms
            arrival.ignored += not self._allow_list.allows(event)


def _is_json(content_type: str | None) -> bool:
    return content_type in _JSON_TYPES or "json" in (content_type or "").partition(";")[0].lower()
