"""workers.http.requests: what arguments, redirects and headers mean."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from spokes.http.calls import HttpResponse
from spokes.http.errors import (
    HttpNotSent,
    HttpRateLimited,
    HttpRefusal,
    HttpUnavailable,
    error_for_status,
)
from workers.http.requests import (
    HttpRequest,
    build_request,
    idempotency_key,
    name_fault,
    read_accepted,
    redirected,
)

ERP, SHOP = "https://erp.example.com", "https://shop.example.com"


def build(method: Any = "POST", url: Any = f"{ERP}/orders", **options: Any) -> HttpRequest:
    return build_request(method, url, **{"params": None, "headers": None, "json": None, "data": None, **options})


def test_request_has_what_the_arguments_say() -> None:
    request = build("post", f"{ERP}/orders?a=1#part", params={"b": 2}, json={"id": 7}, headers={"X-Token": "t"})
    assert (request.method, str(request.url), request.host) == ("POST", f"{ERP}/orders?a=1&b=2", ERP)
    assert (request.body, dict(request.headers)) == (b'{"id":7}', {"X-Token": "t", "Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("data", "body", "content_type"),
    [
        (b"\x00", b"\x00", "application/octet-stream"),
        ("t\u00e4xt", b"t\xc3\xa4xt", "text/plain; charset=utf-8"),
        ({"a": "1 2"}, b"a=1+2", "application/x-www-form-urlencoded"),
    ],
)
def test_data_is_sent_by_its_kind(data: Any, body: bytes, content_type: str) -> None:
    request = build(data=data)
    assert (request.body, request.headers["Content-Type"]) == (body, content_type)
    assert build(data=data, headers={"content-type": "text/csv"}).headers == {"content-type": "text/csv"}


@pytest.mark.parametrize(
    "options",
    [
        {"method": "TRACE"},
        {"method": 7},
        {"url": "/orders"},
        {"url": None},
        {"url": "erp.example.com/orders"},
        {"url": "https://user:pass1234@erp.example.com/"},
        {"json": {1, 2}},
        {"json": 1, "data": "x"},
        {"data": 7},
        {"data": "\ud800"},
        {"headers": {"X y": "a"}},
        {"headers": {"": "a"}},
        {"headers": {"X:": "a"}},
        {"headers": {"Host": "other.example.com"}},
        {"headers": {"Content-Length": "5"}},
        {"headers": {"transfer-encoding": "chunked"}},
        {"params": 7},
        {"params": {"a": object()}},
        {"headers": {"a": 1}},
        {"headers": [("a", "b")]},
        {"headers": {"X-A": "a\r\nX-B: b"}},
        {"headers": {"idempotency-key": "mine"}},
    ],
)
def test_request_that_cannot_be_sent_is_refused_with_a_sentence_without_values(options: dict[str, Any]) -> None:
    with pytest.raises(HttpNotSent) as caught:
        build(**options)
    assert caught.value.explanation.endswith(".")
    assert "pass1234" not in f"{caught.value} {caught.value.fields()}"


@given(
    st.tuples(st.integers(), st.text(), st.text(), st.text()), st.tuples(st.integers(), st.text(), st.text(), st.text())
)
def test_keys_are_alike_for_the_same_event_handler_and_name_alone(
    one: tuple[int, str, str, str], other: tuple[int, str, str, str]
) -> None:
    if not any("\0" in str(part) for part in (*one, *other)):
        assert (idempotency_key(*one) == idempotency_key(*other)) == (one == other)


@pytest.mark.parametrize("name", ["", None, 7, "x" * 201])
def test_call_with_an_effect_needs_a_name(name: Any) -> None:
    assert name_fault(name)
    assert not name_fault("order")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (101, HttpUnavailable), (200, None), (204, None),
        (302, HttpRefusal), (400, HttpRefusal), (401, HttpRefusal), (404, HttpRefusal),
        (409, HttpRefusal), (408, HttpUnavailable), (425, HttpUnavailable), (429, HttpRateLimited),
        (500, HttpUnavailable), (501, HttpUnavailable), (503, HttpUnavailable), (599, HttpUnavailable),
    ],
)  # fmt: skip
def test_status_decides_whether_the_event_is_retried(status: int, error: type[Exception] | None) -> None:
    assert type(error_for_status(ERP, "GET", status)) is (error or type(None))


def redirect(request: HttpRequest, status: int, location: str, declared: tuple[str, ...] = (ERP, SHOP)) -> Any:
    return redirected(request, HttpResponse(status, {"Location": location}), declared)


GET = HttpRequest("GET", URL(f"{ERP}/a"), {"Authorization": "t", "Accept": "text/csv"})
POST = HttpRequest("POST", URL(f"{ERP}/a"), {"X-Key": "t", "Content-Type": "text/csv", "Idempotency-Key": "k"}, b"x")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_read_follows_a_redirect_of_its_host_with_its_headers(status: int) -> None:
    target = redirect(GET, status, "/b")
    assert (target.method, str(target.url), target.headers) == ("GET", f"{ERP}/b", GET.headers)


def test_headers_of_the_handler_do_not_go_to_another_host() -> None:
    assert redirect(GET, 302, f"{SHOP}/b").headers == {"Accept": "text/csv"}
    kept = redirect(POST, 307, f"{SHOP}/b")
    assert (kept.headers, kept.body) == ({"Content-Type": "text/csv", "Idempotency-Key": "k"}, b"x")


def test_effect_is_repeated_only_where_the_host_asks_for_the_same_method() -> None:
    assert redirect(POST, 308, "/b") == POST._replace(url=URL(f"{ERP}/b"))
    assert redirect(POST, 303, "/b") == HttpRequest("GET", URL(f"{ERP}/b"), {"X-Key": "t"})
    for status in (301, 302):
        with pytest.raises(HttpRefusal):
            redirect(POST, status, "/b")


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/", "http://erp.example.com/b", "https://erp.example.com:8443/", "http://127.0.0.1/",
        "", "https://user:p@erp.example.com/", "ftp://erp.example.com/", "//evil.example/b", "https://[bad",
    ],
)  # fmt: skip
def test_redirect_that_leads_elsewhere_is_refused(location: str) -> None:
    with pytest.raises(HttpRefusal, match="redirect"):
        redirect(GET, 302, location)


def test_other_answers_are_no_redirect() -> None:
    assert redirect(GET, 200, "/b") is None
    assert redirect(GET, 304, "/b") is None


def test_answer_shows_no_content() -> None:
    assert repr(HttpResponse(200, {"X-Secret": "s"}, b"s")) == "<HttpResponse 200, 1 bytes>"


def test_final_dot_of_a_host_does_not_make_it_another() -> None:
    assert build(url="https://ERP.example.com./orders").host == ERP
    target = redirected(build("GET"), HttpResponse(302, {"Location": "https://shop.example.com.:443/a"}), {ERP, SHOP})
    assert target is not None
    assert str(target.url) == f"{SHOP}/a"


@pytest.mark.parametrize("accept", [404, (404,), [404], {404}])
def test_accepted_statuses_are_numbers(accept: Any) -> None:
    assert read_accepted(accept, build()) == {404}


@pytest.mark.parametrize("accept", ["404", ("404",), None, 4.04, b"404"])
def test_anything_else_is_not_accepted_before_a_request_is_sent(accept: Any) -> None:
    with pytest.raises(HttpNotSent, match=r"write accept=\(404,\)"):
        read_accepted(accept, build())
