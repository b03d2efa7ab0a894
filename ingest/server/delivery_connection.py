"""Connections that answer common deliveries in callbacks.

For each request aiohttp wakes the connection's task, makes a request object, a writer and a second task, and wakes the
first one again: together more work than verifying, parsing and storing an event. A common delivery, which has arrived
completely and leaves the connection open, needs none of them: it is verified when its last byte arrives, and answered
when Redis has confirmed. While that lasts, the connection's task sleeps as it does between two requests. Everything
else takes aiohttp's way: other requests from the beginning, a delivery that is refused, partly known or hard to read
from where it is.
"""

from asyncio import Future
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple, cast

from aiohttp import HttpVersion11, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from ingest.receiver import Receiver, StartedAdmission
from ingest.server.connection_limits import ConnectionLimits
from ingest.server.request_wrapper import BegunRequest, RequestWrapper
from ingest.server.responses import accepted_content
from ingest.server.slow_connections import SlowConnections
from spokes.core.settings import RECEIVER_PATH
from spokes.intake.admission import Answer
from spokes.intake.classification import Summary, summary

_HEAD: Final = f"POST {RECEIVER_PATH}".encode()


class UnfinishedDelivery(NamedTuple):
    """A delivery that aiohttp's way continues: how it began, and what is left to do."""

    begun: BegunRequest
    rest: Callable[[], Awaitable[Summary]]


class DirectDeliveries(NamedTuple):
    """What the connections of one process share."""

    receiver: Receiver
    wrapper: RequestWrapper
    limits: ConnectionLimits[RequestHandler]
    slow_connections: SlowConnections[RequestHandler]


class DeliveryConnection(RequestHandler):
    """One connection."""

    __slots__ = ("_delayed", "_direct", "_idle_waiter", "unfinished")

    def __init__(self, manager: web.Server, direct: DirectDeliveries, **options: Any) -> None:
        """`options` are those of aiohttp's class."""
        super().__init__(manager, **options)
        self._direct = direct
        self._idle_waiter: Future[None] | None = None  # of the connection's task, during a delivery
        self._delayed: list[bytes] = []  # data that arrived before the connection's task waits for it
        self.unfinished: UnfinishedDelivery | None = None  # for the request that is handled next

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; answer it here if it is one common delivery."""
        if self._delayed:
            self._delayed.append(data)
        elif self._waiter is None and self._is_about_to_wait():
            self._delayed.append(data)
            self._loop.call_soon(self._receive_delayed)
        else:
            self._receive(data)

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's own signature
        """Resume reading if it is paused. aiohttp calls this whenever a body is read, and would parse no data again."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _is_about_to_wait(self) -> bool:
        """Whether the connection's task, which has just started or answered a request, is about to wait for the next.

        It does so in this iteration of the event loop or in the next one. A request that comes before that would take
        aiohttp's way, and so would every further one of a sender who is as quick.
        """
        is_busy = self._request_in_progress or self._messages or self._idle_waiter is not None
        return not is_busy and self._task_handler is not None

    def _receive_delayed(self) -> None:
        data, self._delayed = b"".join(self._delayed), []
        if self.transport is not None and not self.transport.is_closing():  # the sender is not gone already
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done() or not data.startswith(_HEAD):
            super().data_received(data)
            return
        self._waiter = None  # so that the task is not woken
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        if len(self._messages) == 1 and self._is_common(*self._messages[0]):
            self._waiter, self._idle_waiter = None, waiter
            self._begin()
        elif self._messages:
            waiter.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Have aiohttp end the connection's task, which may have been woken for a request just now."""
        if self._idle_waiter is not None:
            self._waiter, self._idle_waiter = self._idle_waiter, None
        waiter, task, unfinished = self._waiter, self._task_handler, self.unfinished
        super().connection_lost(exc)
        if task is not None and waiter is not None and waiter.done() and not waiter.cancelled():
            task.cancel()  # aiohttp would have it handle the request without a server
            self.unfinished = None
            if unfinished is not None:
                self._end_unanswered(unfinished.begun)

    def _is_common(self, message: object, payload: Any) -> bool:
        return (
            isinstance(message, RawRequestMessage)
            and message.path.partition("?")[0] == RECEIVER_PATH
            and message.version == HttpVersion11
            and not message.should_close
            and not message.upgrade
            and "Expect" not in message.headers
            and payload.is_eof()
            and not self._paused
            and not self._direct.wrapper.is_draining
        )

    def _begin(self) -> None:
        """Verify the delivery, and begin to store it."""
        receiver, wrapper, limits, slow_connections = self._direct
        message, payload = cast("tuple[RawRequestMessage, Any]", self._messages[0])
        slow_connections.saw_request(self)
        limits.busy.add(self)
        begun = wrapper.begin()
        try:
            peer = self.peername
            request = receiver.verify(
                begun.id, method=message.method, raw_path=message.path, headers=message.headers,
                remote=str(peer[0]) if isinstance(peer, tuple) else peer, body=payload.read_nowait(),
            )  # fmt: skip
            started = receiver.start(request)
        except Exception as error:  # noqa: BLE001 - the wrapper makes the response for any error
            self._continue(UnfinishedDelivery(begun, partial(_fail, error)))
            return
        if started is None:
            self._continue(UnfinishedDelivery(begun, partial(receiver.admit, request)))
        else:
            started.answer.add_done_callback(partial(self._on_answer, begun, started))

    def _on_answer(self, begun: BegunRequest, started: StartedAdmission, answer: Future[Answer]) -> None:
        """Answer the delivery, if all of it has been stored."""
        receiver, wrapper, limits, _ = self._direct
        if answer.cancelled() or answer.exception() is not None or not answer.result().delivery_id:
            self._continue(UnfinishedDelivery(begun, partial(receiver.finish, started)))
            return
        started.deliveries[0].id = answer.result().delivery_id
        result = summary(started.deliveries)
        wrapper.end(begun, result)
        limits.busy.discard(self)
        if self.transport is None or self._idle_waiter is None:
            return  # the sender is gone; it will send the delivery again, and we shall know its events
        if self not in limits.proven:
            limits.prove(self)
        is_closing = wrapper.is_draining or self._close
        self.transport.write(accepted_content(begun.id, result, close_connection=is_closing))
        self._rest(is_closing=is_closing)

    def _continue(self, unfinished: UnfinishedDelivery) -> None:
        """Wake the connection's task, which handles the first message."""
        if (waiter := self._idle_waiter) is None:
            self._end_unanswered(unfinished.begun)
            return
        self.unfinished = unfinished
        self._waiter, self._idle_waiter = waiter, None
        waiter.set_result(None)

    def _end_unanswered(self, begun: BegunRequest) -> None:
        """End a delivery whose sender is gone, and will send again what is not stored."""
        self._direct.limits.busy.discard(self)
        self._direct.wrapper.end_unanswered(begun)

    def _rest(self, *, is_closing: bool) -> None:
        """Wait for the next request, or close the connection, as aiohttp does after a response."""
        waiter = cast("Future[None]", self._idle_waiter)
        self._waiter, self._idle_waiter = waiter, None
        self._messages.popleft()
        parser, manager, loop = self._parser, self._manager, self._loop
        if parser is not None:
            parser.message_consumed()
        if manager is not None:
            manager.requests_count += 1
        if is_closing:
            self.force_close()
            return
        self._keepalive = True
        self._next_keepalive_close_time = loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        if self._messages:  # the sender did not wait for the answer
            waiter.set_result(None)
        elif self._buffer_paused:
            self._resume_reading_if_drained()


class DeliveryServer(web.Server):
    """aiohttp's server, with connections of ours."""

    direct: DirectDeliveries

    def __call__(self) -> RequestHandler:
        """Return the handler of a new connection."""
        return DeliveryConnection(self, self.direct, loop=self._loop, **self._kwargs)


async def _fail(error: Exception) -> Summary:
    raise error
