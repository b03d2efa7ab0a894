"""The commands `user`, `login-link` and `token`, on a real Valkey."""

import asyncio
import getpass
import os
import subprocess
import sys

import orjson
import pytest
import structlog
from aiohttp.test_utils import TestClient
from click.testing import Result
from redis.asyncio import Redis
from typer.testing import CliRunner

from spokes.console.accounts.policy import Role
from spokes.console.accounts.users import Users
from spokes.console.cli import app as commands
from spokes.console.commands.users import app as user_commands
from spokes.console.web.app_keys import SESSIONS
from spokes.core.errors import ConfigurationError
from spokes.core.redis.keys import CONSOLE_USERS
from tests.support.console_visitor import KEY, SEALS, Visitor
from tests.support.deployment import ROOT
from tests.support.events import recorded

PASSWORD = "correct horse battery"


@pytest.fixture
def deployment(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variables of an operator's shell."""
    for name, value in {**environ, "CONSOLE_KEY": KEY}.items():
        monkeypatch.setenv(name, value)


async def spokes(*arguments: str) -> Result:
    """Run a command and restore structlog's configuration, which it replaces, for the console of this process."""
    before = structlog.get_config()
    try:
        return await asyncio.to_thread(CliRunner().invoke, commands, arguments)
    finally:
        structlog.configure(**before)


@pytest.mark.usefixtures("redis", "deployment")
def test_account_is_added_listed_and_removed() -> None:
    run = CliRunner().invoke
    assert run(user_commands, ["add", "bob", "--role", "operator", "--password-stdin"], PASSWORD).exit_code == 0
    listed = run(user_commands, ["list", "--json"])
    assert '"name":"bob"' in listed.output.replace(" ", "")
    assert "argon2" not in listed.output
    assert run(user_commands, ["remove", "bob", "--yes"]).exit_code == 0
    assert run(user_commands, ["remove", "bob", "--yes"]).exit_code == 1


@pytest.mark.usefixtures("deployment")
async def test_accounts_of_an_earlier_version_are_shown_and_sealed(redis: Redis) -> None:
    await redis.hset(CONSOLE_USERS, "old", '{"roles": ["viewer"], "portals": null, "phc": ""}')  # type: ignore[misc]  # redis-py types
    assert "Not sealed, so they cannot log in: old." in (await spokes("user", "list")).output
    assert "viewer" in (await spokes("user", "seal", "--yes")).output
    assert (await spokes("user", "seal")).output == "Every account is sealed.\n"
    [record] = await recorded(redis)
    assert (record.action, record.detail["user"], record.detail["roles"]) == ("user.changed", "old", ["viewer"])


@pytest.mark.usefixtures("redis", "deployment")
def test_short_password_makes_no_account() -> None:
    run = CliRunner().invoke
    assert run(user_commands, ["add", "bob", "--role", "viewer", "--password-stdin"], "short").exit_code != 0
    assert "bob" not in run(user_commands, ["list", "--json"]).output


@pytest.mark.usefixtures("redis")
def test_account_change_is_logged_to_stderr_beside_the_json(environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "spokes", "user", "add", "bob", "--role", "viewer", "--no-password", "--json"]
    env = {**os.environ, **environ, "CONSOLE_KEY": KEY}
    completed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=True)
    assert orjson.loads(completed.stdout)["name"] == "bob"
    assert "user_changed" in completed.stderr


@pytest.mark.usefixtures("deployment")
async def test_every_account_change_is_audited_with_actor_and_reason(redis: Redis) -> None:
    reason = ["--reason", "a new colleague"]
    for command in (
        ["user", "add", "bob", "--role", "operator", "--portal", "7", "--no-password", *reason],
        ["login-link", "bob", *reason],
        ["user", "remove", "bob", "--yes", *reason],
        ["token", "mint", "--name", "robot", "--role", "viewer", *reason],
        ["token", "revoke", "5f0c9e2ab1d34477", *reason],
    ):
        completed = await spokes(*command)
        assert completed.exit_code == 0, completed.output
    records = await recorded(redis)
    assert [record.action for record in records] == [
        "user.changed", "link.made", "user.removed", "token.made", "token.revoked",
    ]  # fmt: skip
    assert {(record.actor, record.reason) for record in records} == {(getpass.getuser(), "a new colleague")}
    assert records[0].detail == {"user": "bob", "roles": ["operator"], "portals": [7]}


@pytest.mark.usefixtures("deployment")
async def test_token_is_revoked_by_its_text_or_its_id(client: TestClient) -> None:
    for name in ("token", "id"):
        minted = await spokes("token", "mint", "--name", "r", "--role", "viewer", "--json")
        token = orjson.loads(minted.stdout)
        headers = {"Authorization": f"Bearer {token['token']}"}
        statuses = []
        for command in ([], ["token", "revoke", token[name]]):
            if command:
                await spokes(*command)
            async with client.get("/api/v1/queue", headers=headers) as response:
                statuses.append(response.status)
        assert statuses == [200, 401]


@pytest.mark.usefixtures("deployment")
async def test_command_line_ends_sessions_of_provider_logins_too(client: TestClient) -> None:
    sessions = client.server.app[SESSIONS]
    cookie = await sessions.start("oidc:ada@example.com", [Role.VIEWER], None)
    codes = [(await spokes("user", "logout", "oidc:ada@example.com")).exit_code for _ in range(2)]
    assert codes == [0, 1]
    assert await sessions.find(cookie) is None


@pytest.mark.usefixtures("redis", "deployment")
async def test_token_for_a_provider_name_is_refused() -> None:
    completed = await spokes("token", "mint", "--name", "oidc:ada@example.com", "--role", "viewer")
    assert isinstance(completed.exception, ConfigurationError)


@pytest.mark.usefixtures("deployment")
async def test_removing_an_account_ends_its_sessions(client: TestClient, redis: Redis) -> None:
    await Users(redis, SEALS).put("ada", [Role.VIEWER])
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    assert (await spokes("user", "remove", "ada", "--yes")).exit_code == 0
    assert (await visitor.get("/console/dead"))[0] == 303


def test_password_without_a_terminal_names_the_option(environ: dict[str, str]) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "spokes", "user", "add", "bob", "--role", "viewer"]
    done = subprocess.run(
        command, env={**environ, "ENV_FILE": ""}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        start_new_session=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Add --password-stdin" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
