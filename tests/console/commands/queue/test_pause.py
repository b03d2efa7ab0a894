"""`pause` and `resume`."""

import orjson
import pytest
from redis.asyncio import Redis

from spokes.core.redis import keys
from spokes.queue.pauses.pause_decisions import DAILY_LIMIT
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.support.command_line import spokes
from tests.support.events import recorded


async def test_pause_and_resume_are_audited(environ: dict[str, str], redis: Redis) -> None:
    assert spokes(environ, "pause", "7", "--reason", "import by hand").returncode == 0
    assert spokes(environ, "resume", "7").returncode == 0
    actions = [record.action for record in await recorded(redis) if record.actor != "spokes"]
    assert actions == ["portal.paused", "portal.resumed"]


async def test_unknown_portal_is_not_paused(environ: dict[str, str], redis: Redis) -> None:
    await redis.zadd(keys.CREDENTIAL_PORTALS, {"50112233": 1})
    result = spokes(environ, "pause", "1", "--reason", "a test")
    assert (result.returncode, await PortalPauses(redis).list()) == (2, {})
    assert "Portal 1 is unknown here, so nothing was done. Known portals: 50112233." in result.stderr


@pytest.mark.parametrize("command", ["pause", "resume"])
async def test_blank_reason_is_refused(environ: dict[str, str], redis: Redis, command: str) -> None:
    result = spokes(environ, command, "7", "--reason", " ")
    assert (result.returncode, await PortalPauses(redis).list()) == (2, {})
    assert "Write why you do this" in result.stderr


async def test_resumption_of_a_spent_daily_limit_says_that_the_portal_may_be_paused_again(
    environ: dict[str, str], redis: Redis
) -> None:
    await PortalPauses(redis).pause(7, DAILY_LIMIT, seconds=900)
    assert "HubSpot refuses the next call and the portal is paused again" in spokes(environ, "resume", "7").stdout


async def test_one_handler_is_paused_and_resumed_in_all_portals(environ: dict[str, str], redis: Redis) -> None:
    await redis.zadd(keys.CREDENTIAL_PORTALS, {"7": 1, "8": 1})
    handler = "contacts.keep_reachable"
    paused = spokes(environ, "pause", "--handler", handler, "--reason", "wrong numbers", "--json")
    rows = [orjson.loads(line) for line in paused.stdout.splitlines()]
    assert [(row["portal_id"], row["calls"], row["handler"], row["until"]) for row in rows] == [
        (7, "", handler, None), (8, "", handler, None),
    ]  # fmt: skip
    assert spokes(environ, "resume", "--handler", handler).stdout == f"Handler {handler} is resumed.\n"
    assert spokes(environ, "resume", "--handler", handler).returncode == 1


async def test_unknown_handler_is_not_paused_and_the_right_name_is_suggested(
    environ: dict[str, str], redis: Redis
) -> None:
    result = spokes(environ, "pause", "--handler", "contacts.keep_reachabel", "--reason", "a test")
    assert result.returncode == 2
    assert "contacts.keep_reachable" in result.stderr
    assert not await redis.exists(keys.PAUSED_CALLS)


async def test_handler_is_not_paused_before_a_portal_is_known(environ: dict[str, str]) -> None:
    result = spokes(environ, "pause", "--handler", "contacts.keep_reachable", "--reason", "a test")
    assert result.returncode == 2
    assert "No portal is known here yet" in result.stderr


async def test_resume_without_portal_and_handler_is_refused(environ: dict[str, str]) -> None:
    assert spokes(environ, "resume").returncode == 2
