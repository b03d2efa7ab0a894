"""What a handler's exception means, and that the event's record and its dead letter say what failed and where."""

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import pytest
import requests
import structlog
from redis.asyncio import Redis

from spokes.audit.rows import to_row
from spokes.console.queries.history.descriptions import REASON_TEXTS, explain_failure
from spokes.core.errors import (
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    NotPermitted,
    PermanentCRMError,
    PropertyNotDeclared,
    RateLimited,
    RetryLater,
    SpokesError,
)
from spokes.core.events import Event
from spokes.core.masking import Mask
from spokes.crm.batching.errors import CreationUnreadable
from spokes.crm.transport.errors.error_mapping import error_from_response
from spokes.queue.dead_letters import DeadLetters
from spokes.routing import uses
from spokes.tools import Tools
from tests.support.events import recorded
from tests.workers.harness import PORTAL, Harness, change
from workers.lanes.handler_errors import is_transient
from workers.lanes.handler_failure import read_failure

CANARY = "ada.canary@example.org"


async def fail(
    harness: Harness, redis: Redis, error: BaseException
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Run an event whose handler raises `error`; return its failure in letter, audit and log."""

    @harness.router.register("contact.propertyChange", property="failing")
    async def failing(event: Event, tools: Tools) -> None:
        raise error

    with structlog.testing.capture_logs() as lines:
        await harness.run((change("x", 1, "failing"),))
    (letter,) = [letter async for letter in DeadLetters(redis).list(PORTAL)]
    (record,) = [record for record in await recorded(redis) if record.outcome]
    (line,) = [line for line in lines if line["event"] == "handler_failed"]
    assert CANARY not in f"{letter.failure} {record} {line}"
    return dict(letter.failure), dict(record.detail["failure"]), dict(line)  # type: ignore[call-overload]  # a mapping


async def test_exception_of_a_handler_is_recorded_with_class_and_place(harness: Harness, redis: Redis) -> None:
    letter, audit, line = await fail(harness, redis, KeyError(CANARY))
    assert letter == audit
    assert letter["error"] == "KeyError"
    assert letter["error_at"].startswith("tests/workers/handlers/test_handler_errors.py:")
    assert (line["handler"], line["error_at"]) == ("test_handler_errors.failing", letter["error_at"])


async def test_place_is_the_deepest_one_in_the_handlers_package(harness: Harness, redis: Redis) -> None:
    @harness.router.register("contact.propertyChange", property="parsing")
    async def parse(event: Event, tools: Tools) -> None:
        await helper()

    async def helper() -> None:
        orjson.loads(b"{")

    await harness.run((change("x", 1, "parsing"),))
    (letter,) = [letter async for letter in DeadLetters(redis).list(PORTAL)]
    line = helper.__code__.co_firstlineno + 1
    assert letter.failure["error_at"] == f"tests/workers/handlers/test_handler_errors.py:{line}"


def _raise(*_: object) -> Any:
    raise RuntimeError


def odd(base: type[BaseException], **attributes: object) -> BaseException:
    """Return an exception of a class with these attributes."""
    arguments = ("", [ValueError()]) if issubclass(base, BaseExceptionGroup) else ()
    return base.__new__(type("Odd", (base,), attributes), *arguments)


RAISING = property(_raise)
ODD_ERRORS: dict[str, Callable[[], BaseException]] = {
    "attributes": lambda: odd(Exception, status=RAISING, response=RAISING, errno=RAISING),
    "every attribute": lambda: odd(Exception, __getattr__=_raise),
    "all access": lambda: odd(Exception, __getattribute__=_raise),
    "class": lambda: odd(Exception, __class__=RAISING),
    "text": lambda: odd(Exception, __str__=_raise, __repr__=_raise, message=RAISING, detail=RAISING),
    "comparison": lambda: odd(Exception, __eq__=_raise, __hash__=_raise, __bool__=_raise),
    "number": lambda: odd(OSError, errno=RAISING),
    "traceback": lambda: odd(Exception, __traceback__=RAISING, __cause__=RAISING, __context__=RAISING),
    "our reason": lambda: odd(PermanentCRMError, reason=RAISING),
    "our fields": lambda: odd(PermanentCRMError, fields=_raise),
    "unstorable fields": lambda: odd(PermanentCRMError, fields=lambda _: {"x": object()}),
    "reason of another type": lambda: odd(PermanentCRMError, reason=7),
    "exit": lambda: odd(Exception, __str__=lambda _: exit_()),
    "group": lambda: odd(ExceptionGroup, exceptions=RAISING, __str__=_raise),
    "group that contains itself": lambda: odd(ExceptionGroup, exceptions=property(lambda group: (group,))),
}


def exit_() -> Any:
    raise SystemExit


@pytest.mark.parametrize("name", ODD_ERRORS)
async def test_error_that_raises_while_it_is_read_is_the_handlers(harness: Harness, redis: Redis, name: str) -> None:
    letter, audit, _ = await fail(harness, redis, ODD_ERRORS[name]())
    (record,) = [record for record in await recorded(redis) if record.outcome]
    assert letter == audit
    assert (letter["error"], record.reason) == ("Odd", "handler_error:Odd" if "our" not in name else record.reason)
    assert letter["error_at"].startswith("tests/workers/handlers/test_handler_errors.py:")
    assert record.reason != "internal_error"


TRANSIENT_ERRORS: dict[str, Callable[[], BaseException]] = {
    "wait": lambda: odd(RateLimited, retry_after_s=RAISING),
    "wait of another type": lambda: odd(RateLimited, retry_after_s="soon", policy="x", call_kind="contacts.write"),
    "kind": lambda: odd(CRMUnavailable, call_kind=RAISING),
    "all access": lambda: odd(ConnectionError, __getattribute__=_raise),
    "explanation": lambda: odd(RetryLater, explanation=RAISING),
}


@pytest.mark.parametrize("name", TRANSIENT_ERRORS)
def test_transient_error_that_raises_while_it_is_read_is_retried(name: str) -> None:
    failure = read_failure(TRANSIENT_ERRORS[name](), (), "tests", Mask())
    assert (is_transient(failure.error), failure.fields["error"]) == (True, "Odd")


def test_group_is_decided_by_its_readable_errors_too() -> None:
    group = ExceptionGroup("", [odd(ConnectionError, __getattribute__=_raise), KeyError("x")])  # type: ignore[list-item]
    assert read_failure(group, (), "tests", Mask()).fields["error"] == "KeyError"


def test_class_that_the_handler_declared_as_transient_stays_so() -> None:
    error = odd(LookupError, __getattribute__=_raise)
    assert is_transient(read_failure(error, (LookupError,), "tests", Mask()).error)


@pytest.mark.parametrize("name", ["x" * 20_000, "two\nlines; " * 60, ""])
async def test_class_name_of_any_text_keeps_the_outcome_readable(name: str, harness: Harness, redis: Redis) -> None:
    letter, _, _ = await fail(harness, redis, type(name, (Exception,), {})())
    (record,) = [record for record in await recorded(redis) if record.outcome]
    assert to_row(record.as_dict())["reason"] == f"handler_error:{letter['error']}"
    assert str(letter["error"]).isprintable()


async def test_creation_with_an_unreadable_answer_is_a_dead_letter_at_once(harness: Harness, redis: Redis) -> None:
    await fail(harness, redis, CreationUnreadable(status=200))
    (record,) = [record for record in await recorded(redis) if record.outcome]
    assert (record.outcome, record.reason, record.attempt) == ("dead", "creation_unreadable", 1)
    assert REASON_TEXTS[record.reason].startswith("HubSpot's answer to a creation could not be read.")


async def test_undeclared_property_is_named(harness: Harness, redis: Redis) -> None:
    letter, _, _ = await fail(harness, redis, PropertyNotDeclared("contacts", "email"))
    assert (letter["error"], letter["property"]) == ("PropertyNotDeclared", "contacts.email")
    sentence = explain_failure(PropertyNotDeclared.reason, letter)
    assert sentence.startswith("the handler raised PropertyNotDeclared: contacts.email, at tests/workers/")


async def test_reading_an_undeclared_property_is_an_error_of_that_name(harness: Harness, redis: Redis) -> None:
    contact = await created_contact(harness)

    @harness.router.register("contact.propertyChange", property="reading")
    @uses(reads={"contacts": ("city",)})
    async def read(event: Event, tools: Tools) -> None:
        _ = (await tools.crm.contacts.get(event.object_id))["email"]

    await harness.run((change("x", 1, "reading", int(contact)),))
    (letter,) = [letter async for letter in DeadLetters(redis).list(PORTAL)]
    assert (letter.reason, letter.failure["property"]) == ("handler_error:PropertyNotDeclared", "contacts.email")


async def created_contact(harness: Harness) -> str:
    services = harness.crm.handler_services(PORTAL, "contact", {}, frozenset({"contacts.create"}), _Context())
    return await services.contacts.create({"city": "Berlin"})


class _Context:
    priority = "interactive"

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def refusal(status: int, body: object) -> CRMError:
    return error_from_response(status, {}, orjson.dumps(body), datetime.now(UTC))


IN_ERRORS = {
    "status": "error", "category": "VALIDATION_ERROR", "correlationId": "c-1", "message": f"{CANARY} is wrong",
    "errors": [{"message": CANARY, "code": "PROPERTY_DOESNT_EXIST", "context": {"propertyName": ["favourite_colour"]}}],
}  # fmt: skip
IN_MESSAGE = {
    "status": "error", "category": "VALIDATION_ERROR", "correlationId": "c-1",
    "message": 'Property values were not valid: [{"isValid":false,"message":"' + CANARY
    + '","error":"PROPERTY_DOESNT_EXIST","name":"favourite_colour"}]',
}  # fmt: skip
IN_TEXT = {
    "status": "error", "category": "VALIDATION_ERROR", "correlationId": "c-1",
    "errors": [{"code": "PROPERTY_DOESNT_EXIST", "message": 'Property "favourite_colour" does not exist'}],
}  # fmt: skip


@pytest.mark.parametrize("body", [IN_ERRORS, IN_MESSAGE, IN_TEXT])
async def test_refusal_of_hubspot_is_recorded_with_code_property_status_and_id(
    body: dict[str, Any], harness: Harness, redis: Redis
) -> None:
    letter, _, line = await fail(harness, redis, refusal(400, body))
    expected = {"status": 400, "category": "VALIDATION_ERROR", "code": "PROPERTY_DOESNT_EXIST"}
    expected |= {"property": "favourite_colour", "correlation_id": "c-1"}
    assert expected.items() <= letter.items()
    assert expected.items() <= line.items()
    sentence = explain_failure("invalid_request", letter)
    assert "(400, VALIDATION_ERROR, PROPERTY_DOESNT_EXIST, property favourite_colour, HubSpot's id c-1)" in sentence


@pytest.mark.parametrize(
    "finding",
    [
        {"code": CANARY, "in": CANARY},
        {"code": "+49 151 2345678", "context": {"propertyName": ["+49 151 2345678"]}},
        {"code": ["X"], "context": CANARY},
        {"code": "A" * 90, "context": {"propertyName": ["a" * 101]}},
        {"code": "Ada", "in": "Ada Lovelace"},
    ],
)
def test_code_and_property_that_do_not_look_like_names_are_dropped(finding: dict[str, Any]) -> None:
    error = refusal(400, {"category": "VALIDATION_ERROR", "errors": [finding]})
    assert error.fields() == {"status": 400, "category": "VALIDATION_ERROR"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (refusal(414, {}), "invalid request (414)"),
        (
            refusal(403, {"category": "BANNED"}),
            "HubSpot did not permit the call and named no missing scope (403, BANNED)",
        ),
        (NotPermitted(scopes=("crm.objects.deals.read",)), "the token lacks the scope crm.objects.deals.read (403)"),
        (NotPermitted(status=0, scopes=("deals.update",)), "the handler did not declare deals.update"),
        (InvalidRequest(service="contacts", property_name="phone"), "invalid request (property contacts.phone)"),
    ],
)
def test_sentence_says_what_was_refused(error: CRMError, sentence: str) -> None:
    assert explain_failure(error.reason, error.fields()) == sentence


class TimeoutException(Exception):
    pass


class HTTPStatusError(Exception):
    pass


def of_httpx(error: type[Exception], status: int = 0) -> Exception:
    """Return an error as httpx, which is not installed, would raise it."""
    raised = type(f"Own{error.__name__}", (error,), {})("text")
    raised.response = type("Response", (), {"status_code": status})()  # type: ignore[attr-defined]
    return raised


TimeoutException.__module__ = HTTPStatusError.__module__ = "httpx._exceptions"


async def refused_connection() -> Exception:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with aiohttp.ClientSession() as session:
        try:
            await session.get(f"http://127.0.0.1:{port}/")
        except aiohttp.ClientConnectorError as error:
            return error
    raise AssertionError


async def test_refused_connection_of_ones_own_api_is_retried(harness: Harness) -> None:
    harness.errors = [await refused_connection()]
    await harness.run((change("x", 1),))
    assert await harness.outcomes() == [("retried", "handler_error:ClientConnectorError")]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.ServerTimeoutError(), True),
        (aiohttp.ClientPayloadError(), True),
        (aiohttp.ClientResponseError(None, (), status=503), True),  # type: ignore[arg-type]  # no request was made
        (aiohttp.ClientResponseError(None, (), status=404), False),  # type: ignore[arg-type]  # as above
        (aiohttp.InvalidURL("x"), False),
        (requests.ConnectionError(), True),
        (requests.ReadTimeout(), True),
        (requests.exceptions.SSLError(), False),
        (requests.exceptions.InvalidURL(), False),
        (of_httpx(TimeoutException), True),
        (of_httpx(HTTPStatusError, 502), True),
        (of_httpx(HTTPStatusError, 422), False),
        (socket.gaierror(-3, "try again"), True),
        (OSError(113, "no route to host"), True),
        (OSError(2, "no such file"), False),
        (ssl.SSLCertVerificationError(), False),
        (KeyError("x"), False),
    ],
)
def test_connection_errors_of_other_servers_are_transient(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected


class ErpBusy(Exception):
    pass


def test_declared_exceptions_and_their_subclasses_are_transient() -> None:
    class ErpVeryBusy(ErpBusy):
        pass

    assert is_transient(ErpVeryBusy(), (ErpBusy,))
    assert not is_transient(ErpBusy())
    assert not is_transient(SpokesError(), (ErpBusy,))


async def test_declared_exception_is_retried_and_any_other_is_not(harness: Harness, redis: Redis) -> None:
    errors: list[Exception] = [ErpBusy(), ExceptionGroup("", [ErpBusy(), ErpBusy()])]

    @harness.router.register("contact.propertyChange", property="declared")
    @uses(retry_on=(ErpBusy,))
    async def declared(event: Event, tools: Tools) -> None:
        if errors:
            raise errors.pop()

    for value in ("x", "y", "z"):
        await harness.run((change(value, ord(value), "declared"),))
    outcomes = [record.outcome for record in await recorded(redis) if record.outcome]
    assert outcomes == ["retried", "retried", "processed"]


def test_delay_of_a_retry_is_read_from_either_place() -> None:
    assert (RetryLater("busy", after_s=60).after_s, RetryLater("busy", 60).after_s, RetryLater(60).after_s) == (60,) * 3
    assert (RetryLater().after_s, RetryLater(None).after_s, RetryLater("busy").explanation) == (None, None, "busy")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ERP answered 503", "ERP answered 503"),
        (f"ERP refused {CANARY}", "ERP refused ***"),
        ("two\nlines \ud800", "two lines  "),
        ("x" * 500, "x" * 200),
    ],
)
async def test_explanation_of_a_retry_is_in_letter_timeline_and_log(
    harness: Harness, redis: Redis, text: str, shown: str
) -> None:
    @harness.router.register("contact.propertyChange", property="failing")
    @uses(retries=())
    async def failing(event: Event, tools: Tools) -> None:
        raise RetryLater(text, after_s=60)

    await harness.run((change("x", 1, "failing"),))
    (letter,) = [letter async for letter in DeadLetters(redis).list(PORTAL)]
    (record,) = [record for record in await recorded(redis) if record.outcome]
    assert letter.failure["explanation"] == record.detail["failure"]["explanation"] == shown
    assert explain_failure(letter.reason, letter.failure).partition(", at ")[0].endswith(f": {shown}")
