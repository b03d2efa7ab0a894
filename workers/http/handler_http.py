"""`tools.http` of one handler run: what it declared, its idempotency keys, and the record of its calls."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from spokes.core.errors import LeaseLost
from spokes.http.calls import Http, HttpResponse
from spokes.http.errors import HttpError, HttpNotSent
from spokes.queue.held_deliveries import Calls
from spokes.queue.pauses.call_breaker import CallBreaker
from workers.http.requests import (
    IDEMPOTENCY_HEADER,
    HttpRequest,
    build_request,
    idempotency_key,
    name_fault,
    read_accepted,
)
from workers.http.session import HttpSession

if TYPE_CHECKING:
    from spokes.routing import Route
    from workers.lanes.lanes import Lane, WorkItem

_MAX_RECORDED: Final = 20  # calls of one run, in the audit
_Params = Mapping[str, str | int | float] | None
_Data = bytes | str | Mapping[str, str] | None


class HandlerHttp(Http):
    """The `spokes.http.calls.Http` of one handler run."""

    def __init__(
        self, session: HttpSession, breaker: CallBreaker, item: "WorkItem", route: "Route", lane: "Lane"
    ) -> None:
        self._session = session
        self._breaker = breaker
        self._item = item
        self._route = route
        self._lane = lane
        self._named: dict[str, bytes] = {}  # fingerprints of the requests of this run, by name

    async def request(
        self,
        method: str,
        url: str,
        *,
        name: str = "",
        params: _Params = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: _Data = None,
        accept: Sequence[int] = (),
    ) -> HttpResponse:
        """See spokes.http.calls.Http."""
        request = build_request(method, url, params=params, headers=headers, json=json, data=data)
        declared = self._route.uses.calls
        if request.host not in declared:
            text = f"@uses does not declare {request.host}: add it to calls=(...)."
            raise HttpNotSent(request.host, request.method, text, is_undeclared=True)
        accepted = read_accepted(accept, request)
        if request.is_unsafe:
            request = self._with_key(request, name)
        response, error = await self._session.call(request, declared, accepted, self)
        if error is not None and response.status not in accepted:
            raise error
        return response

    def idempotency_key(self, name: str) -> str:
        """See spokes.http.calls.Http."""
        if fault := name_fault(name):
            raise HttpNotSent("", "", fault)
        entry, portal_id = self._item.entry, self._item.event.portal_id
        return idempotency_key(portal_id, entry.event_key, self._route.name, name)

    def before_send(self) -> None:
        """See workers.http.session.RequestObserver."""
        if time.monotonic() > self._lane.lease_until:
            raise LeaseLost

    def ended(self, request: HttpRequest, status: int, error: HttpError | None, seconds: float) -> None:
        """See workers.http.session.RequestObserver."""
        calls = Calls(self._item.event.portal_id, request.host)
        if status or error is not None:  # otherwise the call was cancelled
            self._breaker.kind_ended(calls, error)
        if len(self._item.http_calls) == _MAX_RECORDED:
            return
        record: dict[str, object] = {"host": request.host, "method": request.method, "ms": round(1000 * seconds)}
        record |= {"status": status} if status else {"reason": error.reason if error else "cancelled"}
        if key := request.headers.get(IDEMPOTENCY_HEADER):
            record["idempotency_key"] = key
        self._item.http_calls = (*self._item.http_calls, record)

    def _with_key(self, request: HttpRequest, name: str) -> HttpRequest:
        """Return a request with an effect with its idempotency key.

        Raises:
            HttpNotSent: it has no name, or another request of this run has the same: the host would ignore this one.
        """
        fault = name_fault(name)
        if not fault and self._named.setdefault(name, request.fingerprint) != request.fingerprint:
            fault = "two different calls of a handler have the same name, so the host would ignore the second one."
        if fault:
            raise HttpNotSent(request.host, request.method, fault)
        return request._replace(headers={**request.headers, IDEMPOTENCY_HEADER: self.idempotency_key(name)})
