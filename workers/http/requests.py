"""Requests of `tools.http`: what a handler's arguments mean, idempotency keys, and where a redirect leads. Pure."""

import hashlib
import re
from collections.abc import Container, Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlencode

import orjson
from yarl import URL

from spokes.http.calls import HttpResponse
from spokes.http.errors import HttpNotSent, HttpRefusal
from spokes.http.hosts import without_final_dot

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS: Final = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
_SEE_OTHER: Final = 303
_SAME_METHOD: Final = frozenset({307, 308})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_NAME: Final = 200
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+", re.ASCII)  # RFC 9110, in lower case
_OWN_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te"}
)
_MAX_SHOWN: Final = 100


class HttpRequest(NamedTuple):
    """One request; `headers` are the handler's own, without those that the session adds."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def host(self) -> str:
        """The host as it is declared: scheme, name, and a port that is not the scheme's own."""
        return str(self.url.origin())

    @property
    def is_unsafe(self) -> bool:
        """Whether the request may have an effect, which a repetition would repeat."""
        return self.method not in SAFE_METHODS

    @property
    def fingerprint(self) -> bytes:
        """A hash of what is asked, by which two requests of one name are told apart."""
        return hashlib.sha256(b"\0".join((self.method.encode(), str(self.url).encode(), self.body))).digest()


def build_request(
    method: object, url: object, *, params: object, headers: object, json: object, data: object
) -> HttpRequest:
    """Return the request that a handler's arguments describe.

    Raises:
        HttpNotSent: they describe none.
    """
    verb = method.upper() if isinstance(method, str) else ""
    if verb not in _METHODS:
        raise HttpNotSent("", "", f"tools.http sends {', '.join(sorted(_METHODS))} only.")
    target = _read_url(url, verb)
    host = str(target.origin())
    fields = _read_headers(headers, host, verb)
    if json is not None and data is not None:
        raise HttpNotSent(host, verb, "tools.http sends either json or data, not both.")
    try:
        body, content_type = _encode_body(json, data)
        if params is not None:
            target = target.update_query(params)  # type: ignore[call-overload]  # yarl checks it
    except (TypeError, ValueError, AttributeError):
        text = (
            "json takes what JSON can hold, data takes bytes, text or fields of a form, params takes names and values."
        )
        raise HttpNotSent(host, verb, text) from None
    if content_type and "content-type" not in {name.casefold() for name in fields}:
        fields["Content-Type"] = content_type
    return HttpRequest(verb, target, fields, body)


def idempotency_key(portal_id: int, event_key: str, handler: str, name: str) -> str:
    """Return the key of an effect: the same whenever the event runs again, and another for anything else."""
    text = "\0".join((str(portal_id), event_key, handler, name))
    digits = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"  # a UUID, version 8


def name_fault(name: object) -> str:
    """Return why a text cannot be the name of a call with an effect, the empty text if it can."""
    if not isinstance(name, str) or not name:
        return 'a call that may have an effect needs a name: write tools.http.post(url, name="order", ...).'
    return f"the name of a call has at most {_MAX_NAME} characters." if len(name) > _MAX_NAME else ""


def read_accepted(accept: object, request: HttpRequest) -> frozenset[int]:
    """Return the statuses that a handler accepts.

    Raises:
        HttpNotSent: they are no numbers.
    """
    statuses = (accept,) if isinstance(accept, int) else accept
    if isinstance(statuses, Iterable) and not isinstance(statuses, str | bytes):
        members = tuple(statuses)
        if all(isinstance(member, int) for member in members):
            return frozenset(members)
    raise HttpNotSent(request.host, request.method, "accept takes statuses: write accept=(404,).")


def redirected(request: HttpRequest, response: HttpResponse, declared: Container[str]) -> HttpRequest | None:
    """Return the request that a redirect asks for, None if the answer is no redirect.

    A request with an effect is repeated only where the host asks for the same method (307, 308); after 303 the result
    is read. After 301 and 302 clients would send a GET, and the effect would be missing. Of the handler's headers, only
    Accept, Accept-Language and Content-Type go to another host.

    Raises:
        HttpRefusal: it leads to a host that the handler did not declare, or nowhere, or would lose an effect.
    """
    if response.status not in _REDIRECTS:
        return None
    refusal = HttpRefusal(request.host, request.method, status=response.status, code="redirect")
    try:
        url = without_final_dot(request.url.join(URL(response.headers.get("Location", ""))))
        host = str(url.origin())
    except ValueError:
        raise refusal from None
    is_lost = request.is_unsafe and response.status not in {*_SAME_METHOD, _SEE_OTHER}
    if not response.headers.get("Location") or host not in declared or url.user is not None or is_lost:
        raise refusal
    headers = dict(request.headers)
    if host != request.host:
        kept = {"accept", "accept-language", "content-type", IDEMPOTENCY_HEADER.casefold()}
        headers = {name: value for name, value in headers.items() if name.casefold() in kept}
    if response.status == _SEE_OTHER and request.method != "HEAD":
        own = {"content-type", IDEMPOTENCY_HEADER.casefold()}
        headers = {name: value for name, value in headers.items() if name.casefold() not in own}
        return HttpRequest("GET", url, headers)
    return HttpRequest(request.method, url, headers, request.body)


def _read_url(url: object, method: str) -> URL:
    try:
        target = without_final_dot(url if isinstance(url, URL) else URL(url))  # type: ignore[arg-type]  # yarl refuses what is no text
        host = str(target.origin())
    except (TypeError, ValueError):
        text = 'tools.http takes an absolute URL: write "https://erp.example.com/orders".'
        raise HttpNotSent("", method, text) from None
    if target.user is not None or target.password is not None:
        text = "the URL has a user or password: pass secrets in a header."
        raise HttpNotSent(host[:_MAX_SHOWN], method, text)
    return target.with_fragment(None)


def _read_headers(headers: object, host: str, method: str) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping) or not all(isinstance(text, str) for pair in headers.items() for text in pair):
        raise HttpNotSent(host, method, "headers takes names and values, all of them text.")
    fields: dict[str, str] = dict(headers)
    if any(mark in text for pair in fields.items() for text in pair for mark in "\r\n\0"):
        raise HttpNotSent(host, method, "a header has a line break or a zero byte.")
    names = {name.casefold() for name in fields}
    if not all(map(_HEADER_NAME.fullmatch, names)):
        raise HttpNotSent(host, method, "the name of a header has letters, digits and hyphens, no spaces or colons.")
    if IDEMPOTENCY_HEADER.casefold() in names:
        text = f"tools.http derives {IDEMPOTENCY_HEADER} from the name of the call: leave it out."
        raise HttpNotSent(host, method, text)
    if own := sorted(names & _OWN_HEADERS):
        raise HttpNotSent(host, method, f"tools.http sets {', '.join(own)} itself: leave it out.")
    return fields


def _encode_body(json: object, data: object) -> tuple[bytes, str]:
    """Return the body and its type."""
    if json is not None:
        return orjson.dumps(json), "application/json"
    if data is None:
        return b"", ""
    if isinstance(data, bytes):
        return data, "application/octet-stream"
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    if isinstance(data, Mapping):
        return urlencode(data).encode(), "application/x-www-form-urlencoded"
    raise TypeError
