"""The page *Dead letters*, over real HTTP."""

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.audit.records import Action
from spokes.console.accounts.policy import Role
from spokes.core.delivery import Entry
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from tests.support.console_visitor import HOSTILE_HTML, Visitor, visible_text
from tests.support.events import event, recorded, store_dead_letters

PORTAL = 50112233


async def store_letter(redis: Redis, number: int, reason: str = "object_not_found", **raw: object) -> DeadLetter:
    entry = Entry(f"{number:032x}", 3, event(number, **raw))
    letter = DeadLetter(PORTAL, "d", entry, reason, "contacts.on_creation", 1_795_442_400_000 + number)
    await store_dead_letters(redis, letter)
    return letter


def form_value(letter: DeadLetter) -> str:
    return f"{letter.portal_id}:{letter.entry.key}"


def path_of(letter: DeadLetter) -> str:
    return f"/console/dead/{letter.portal_id}/{letter.entry.key}"


async def test_empty_list_is_explained(client: TestClient) -> None:
    _, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/dead")
    assert "There are no dead letters" in page


async def test_dead_letter_says_what_failed_and_where(client: TestClient, redis: Redis) -> None:
    failure = {"error": "KeyError", "error_at": "my_handlers/x.py:14", "status": 400, "code": "PROPERTY_DOESNT_EXIST"}
    letter = DeadLetter(PORTAL, "d", Entry("ab", 1, event()), "invalid_request", "contacts.x", 1, failure)
    await store_dead_letters(redis, letter)
    _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get(path_of(letter))
    assert "Invalid request (400, PROPERTY_DOESNT_EXIST), at my_handlers/x.py:14" in visible_text(page)


@pytest.mark.parametrize("occurred_at", [9 * 10**15, 2**63 - 1])
async def test_dead_letter_of_an_event_beyond_the_calendar_is_shown(
    client: TestClient, redis: Redis, occurred_at: int
) -> None:
    letter = await store_letter(redis, 1, occurredAt=occurred_at)
    status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get(path_of(letter))
    assert (status, f"{occurred_at:.0f} ms" in page or "ms UTC" in page) == (200, True)


async def test_dead_letters_are_grouped_escaped_and_without_values(client: TestClient, redis: Redis) -> None:
    for number in (1, 2):
        await store_letter(redis, number, reason=HOSTILE_HTML, propertyName=HOSTILE_HTML, propertyValue="hidden-value")
    status, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/dead")
    assert status == 200
    assert "2 in contacts.on_creation" in visible_text(page)
    assert "<script>a" not in page
    assert "hidden-value" not in page


async def test_viewer_sees_no_actions_and_is_refused(client: TestClient, redis: Redis) -> None:
    letter = await store_letter(redis, 1)
    viewer = await Visitor.signed_in(client, Role.VIEWER)
    _, page = await viewer.get("/console/dead")
    response = await viewer.post("/console/dead/replay", {"letter": form_value(letter), "reason": "x"})
    assert ("<button>Replay" in page, response.status) == (False, 403)
    assert await DeadLetters(redis).get(PORTAL, letter.entry.key) is not None


@pytest.mark.parametrize(("verb", "outcome"), [("replay", "replayed"), ("discard", "discarded")])
async def test_selected_letters_are_settled_and_audited(
    client: TestClient, redis: Redis, verb: str, outcome: str
) -> None:
    first, second, third = [await store_letter(redis, number) for number in (1, 2, 3)]
    operator = await Visitor.signed_in(client, Role.OPERATOR)
    form = [("letter", form_value(first)), ("letter", form_value(second)), ("reason", "scope granted")]
    response = await operator.post(f"/console/dead/{verb}", form)
    assert (response.status, response.headers["Location"]) == (303, f"/console/dead?done={verb}&count=2")
    records = await recorded(redis)
    assert {(record.outcome, record.actor, record.reason, record.detail["address"]) for record in records} == {
        (outcome, "ada", "scope granted", "127.0.0.1")
    }
    assert [letter.entry.key async for letter in DeadLetters(redis).list(PORTAL)] == [third.entry.key]


async def test_all_letters_of_a_cause_are_settled_at_once(client: TestClient, redis: Redis) -> None:
    for number in range(1, 121):
        await store_letter(redis, number)
    other = await store_letter(redis, 200, reason="rate_limited")
    form = {"all": "1", "cause": "object_not_found", "handler": "contacts.on_creation", "reason": "gone"}
    response = await (await Visitor.signed_in(client, Role.OPERATOR)).post("/console/dead/discard", form)
    assert response.headers["Location"].endswith("count=120")
    assert [letter.entry.key async for letter in DeadLetters(redis).list(PORTAL)] == [other.entry.key]


@pytest.mark.parametrize(
    ("form", "overrides", "status"),
    [
        ({"reason": ""}, {}, 422),
        ({"reason": "x", "letter": ""}, {}, 422),
        ({"reason": "x"}, {"csrf": "0" * 64}, 403),
        ({"reason": "x"}, {"site": "cross-site"}, 403),
    ],
)
async def test_action_without_reason_selection_csrf_token_or_same_origin_is_refused(
    client: TestClient, redis: Redis, form: dict[str, str], overrides: dict[str, str], status: int
) -> None:
    letter = await store_letter(redis, 1)
    operator = await Visitor.signed_in(client, Role.OPERATOR)
    response = await operator.post("/console/dead/discard", {"letter": form_value(letter), **form}, **overrides)
    assert response.status == status
    assert await DeadLetters(redis).get(PORTAL, letter.entry.key) is not None


async def test_letters_of_another_portal_are_not_found(client: TestClient, redis: Redis) -> None:
    letter = await store_letter(redis, 1)
    operator = await Visitor.signed_in(client, Role.OPERATOR, portals=[7])
    (_, page), (status, _) = await operator.get("/console/dead"), await operator.get(path_of(letter))
    response = await operator.post("/console/dead/discard", {"letter": form_value(letter), "reason": "x"})
    assert ("There are no dead letters" in page, status, response.status) == (True, 404, 422)


async def test_value_is_masked_until_it_is_revealed_and_audited(client: TestClient, redis: Redis) -> None:
    letter = await store_letter(redis, 1, propertyValue="<b>hidden-value</b>")
    officer = await Visitor.signed_in(client, Role.PRIVACY_OFFICER)
    _, masked = await officer.get(path_of(letter))
    response = await officer.post(path_of(letter) + "/reveal", {"reason": "a complaint"})
    (audited,) = await recorded(redis)
    assert "hidden-value" not in masked
    assert "&lt;b&gt;hidden-value" in await response.text()
    assert (audited.action, audited.actor, audited.reason) == (Action.VALUE_REVEALED, "ada", "a complaint")
    assert "hidden" not in str(audited)


@pytest.mark.parametrize(("role", "reason", "status"), [(Role.OPERATOR, "x", 403), (Role.ADMIN, " ", 422)])
async def test_reveal_needs_role_and_reason(
    client: TestClient, redis: Redis, role: Role, reason: str, status: int
) -> None:
    letter = await store_letter(redis, 1, propertyValue="hidden-value")
    response = await (await Visitor.signed_in(client, role)).post(path_of(letter) + "/reveal", {"reason": reason})
    assert (response.status, "hidden-value" in await response.text()) == (status, False)


async def test_long_lists_show_the_newest_letters(client: TestClient, redis: Redis) -> None:
    for number in range(1, 301):
        await store_letter(redis, number)
    _, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/dead")
    assert "Newest 50" in page
    assert page.count('name="letter"') == 50


@pytest.mark.parametrize("portal", ["9" * 5000, "9" * 19, "\u0663", "-1", "x", "1e3"])
async def test_number_that_no_page_sends_is_a_400(client: TestClient, redis: Redis, portal: str) -> None:
    letter = await store_letter(redis, 1)
    operator = await Visitor.signed_in(client, Role.OPERATOR)
    form = [("letter", form_value(letter)), ("letter", f"{portal}:{letter.entry.key}"), ("reason", "x")]
    assert (await operator.post("/console/dead/replay", form)).status == 400
    assert (await operator.get("/console/dead", done="replay", count=portal))[0] == 400
    assert await DeadLetters(redis).get(PORTAL, letter.entry.key) is not None
