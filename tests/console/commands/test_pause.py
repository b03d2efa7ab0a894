"""`pause` and `resume`."""

from redis.asyncio import Redis

from tests.support.command_line import spokes
from tests.support.events import recorded


async def test_pause_and_resume_are_audited(environ: dict[str, str], redis: Redis) -> None:
    assert spokes(environ, "pause", "7", "--reason", "import by hand").returncode == 0
    assert spokes(environ, "resume", "7").returncode == 0
    actions = [record.action for record in await recorded(redis) if record.actor != "spokes"]
    assert actions == ["portal.paused", "portal.resumed"]
