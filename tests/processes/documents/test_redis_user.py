"""Everything runs as the Redis user that docs/deploy.md describes, and without its optional permissions."""

import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.simulator.demo import play_demo
from tests.support.command_line import spokes
from tests.support.console_visitor import KEY as CONSOLE_KEY
from tests.support.console_visitor import Visitor, running_console
from tests.support.deployment import KEY, PUBLIC_URL, ROOT, SECRET, TOKEN
from tests.support.redis_server import own_server

pytestmark = pytest.mark.slow

PASSWORD = "a-password-of-a-redis-user"
PAGES = ("", "/object", "/dead", "/audit", "/privacy", "/settings")
COMMANDS = (
    "migrate", "queue", "alerts", "events", "handlers", "pause", "secrets list", "secrets reseal", "dead list",
    "audit query", "audit verify", "audit checkpoint", "user add ada --role admin --no-password", "user list",
    "user seal", "login-link ada", "token mint --name ada --role viewer", "privacy list", "pause 50112233",
    "resume 50112233", "user logout ada", "user remove ada --yes", "doctor --quiet",
)  # fmt: skip


def rule() -> list[str]:
    """Return the words of the rule on the page, from the user's name on, with a password of ours."""
    page = (ROOT / "docs/deploy.md").read_text()
    [line] = re.findall(r"^ACL SETUSER (.*)$", page, re.MULTILINE)
    return str(line).replace("PASSWORD", PASSWORD).split()


@pytest.mark.parametrize("without", [(), ("-info", "-publish", "-subscribe", "resetchannels")], ids=["listed", "least"])
async def test_whole_deployment_runs_as_the_listed_redis_user(tmp_path: Path, without: tuple[str, ...]) -> None:
    async with own_server(tmp_path / "server", appendonly="yes") as (url, redis):
        await redis.execute_command("ACL", "SETUSER", *rule(), *without)
        environ = {
            "REDIS_URL": url.replace("//", f"//spokes:{PASSWORD}@"),
            "AUDIT_KEY": KEY,
            "CONSOLE_KEY": CONSOLE_KEY,
        }
        (tmp_path / "data").mkdir()
        rows = await play_demo(tmp_path / "data", seed=3, size=0.1, workers=1, environ=environ)
        assert [row for row in rows if not row.agrees] == []
        await run_commands_and_pages({**environ, "DATA_DIR": str(tmp_path / "data")})
        assert await denied(redis) <= ({"info", "subscribe", "publish", "spokes:wake"} if without else set()) | {
            "config|get"
        }


async def run_commands_and_pages(environ: dict[str, str]) -> None:
    environ |= {"HUBSPOT_CLIENT_SECRET": SECRET, "HUBSPOT_ACCESS_TOKEN": TOKEN, "PUBLIC_URL": PUBLIC_URL}
    for command in COMMANDS:
        done = spokes(environ, *command.split())
        assert done.returncode in {0, 1}, (command, done.stderr)
    async with running_console(environ) as client:
        visitor = await Visitor.signed_in(client, *Role)
        for page in PAGES:
            status, text = await visitor.get(f"/console{page}")
            assert status == 200, (page, status, text)


async def denied(redis: Redis) -> set[str]:
    """Return the commands, keys and channels that Redis refused to the user."""
    return {entry["object"] for entry in await redis.acl_log()}
