"""`user add|list|remove|logout|seal`, `login-link`: the console's accounts. A password is never an argument."""

import asyncio
import contextlib
import getpass
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import typer

from spokes.audit.records import Action
from spokes.audit.stream import append_now
from spokes.console.accounts.policy import Role
from spokes.console.accounts.seals import Seals
from spokes.console.accounts.sessions import Sessions
from spokes.console.accounts.users import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, NAME_PATTERN, User, Users
from spokes.console.operator_audit import operator_record
from spokes.console.operator_redis import operator_redis
from spokes.console.output import (
    JsonOption,
    ReasonOption,
    YesOption,
    confirm,
    print_json,
    print_message,
    print_table,
)
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Manage the accounts of the console; docs/console.md lists the roles.",
)

T = TypeVar("T")
NameArgument = Annotated[str, typer.Argument(help="The account's name, lower case: ada or ada@example.com.")]
_LOCAL_URL: Final = "http://localhost"


@app.command()
def add(
    name: NameArgument,
    role: Annotated[list[Role], typer.Option(help="What the account may do; repeatable.")],
    portal: Annotated[
        list[int] | None, typer.Option(help="A portal that the account may see; repeatable; default: all.", min=1)
    ] = None,
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
    no_password: Annotated[bool, typer.Option(help="Allow login by `spokes login-link` only.")] = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Create an account, or change one; its open sessions end.

    Asks for a password of 12 characters or more.

    Example: spokes user add ada --role operator
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigurationError(
            ["An account's name has at most 100 characters: lower-case letters, digits and . _ @ + - only."]
        )
    password = "" if no_password else _read_password(from_stdin=password_stdin)

    roles = sorted(map(str, role))
    detail = {"user": name, "roles": roles, "portals": portal}
    record = operator_record(Action.USER_CHANGED, detail, actor=getpass.getuser(), reason=reason)

    async def put(users: Users, sessions: Sessions) -> None:
        await users.put(name, role, portal, password, record=record)
        await sessions.end_all(name)

    _run(put)
    _log(SecurityEvent.USER_CHANGED, user=name, change="put", roles=roles)
    if as_json:
        print_json({"name": name, "roles": sorted(role), "portals": portal, "password": bool(password)})
    else:
        print(f"{name} can log in." if password else f"{name} can log in by a link: spokes login-link {name}")


@app.command("list")
def list_users(as_json: JsonOption = False) -> None:
    """Show the accounts: their roles, portals and whether they have a password.

    Example: spokes user list
    """

    async def find(users: Users, _: Sessions) -> tuple[tuple[User, ...], tuple[User, ...]]:
        return await users.all(), await users.unsealed()

    users, unsealed = _run(find)
    if as_json:
        print_json(*(
            {
                "name": user.name, "roles": sorted(user.roles), "portals": _portal_list(user),
                "password": bool(user.password_hash),
            }
            for user in users
        ))  # fmt: skip
        return
    rows = (
        (
            user.name,
            ", ".join(sorted(user.roles)),
            "all" if user.portals is None else ", ".join(map(str, sorted(user.portals))),
            "yes" if user.password_hash else "no, by link",
        )
        for user in users
    )
    if users:
        print_table(("Name", "Roles", "Portals", "Password"), rows)
    else:
        print_message("There is no account yet. Create one: spokes user add NAME --role admin")
    if unsealed:
        print_message(
            f"Not sealed, so they cannot log in: {', '.join(user.name for user in unsealed)}. Check and seal them: "
            "spokes user seal"
        )


@app.command()
def remove(name: NameArgument, reason: ReasonOption = "", yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Remove an account and end its sessions. Its API tokens stay valid until they expire or are revoked.

    Exit code 1 when there is no such account.

    Example: spokes user remove ada
    """
    confirm(f"Remove the account {name} and end its sessions?", yes=yes)

    record = operator_record(Action.USER_REMOVED, {"user": name}, actor=getpass.getuser(), reason=reason)

    async def end(users: Users, sessions: Sessions) -> tuple[bool, int]:
        return await users.remove(name, record=record), await sessions.end_all(name)

    removed, ended = _run(end)
    if removed:
        _log(SecurityEvent.USER_CHANGED, user=name, change="removed")
    if ended:
        _log(SecurityEvent.SESSION_REVOKED, user=name, count=ended)
    if as_json:
        print_json({"name": name, "removed": removed, "sessions_ended": ended})
    else:
        print(f"{name} is removed; sessions ended: {ended}." if removed else f"There is no account {name}.")
    raise typer.Exit(0 if removed else 1)


@app.command()
def logout(name: NameArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """End every open session of an account, also of the identity provider's: oidc:ada@example.com.

    Exit code 1 when no session was open.

    Example: spokes user logout ada --reason "her laptop was stolen"
    """

    async def end(users: Users, sessions: Sessions) -> int:
        ended = await sessions.end_all(name)
        if ended:
            detail = {"user": name, "count": ended}
            record = operator_record(Action.SESSIONS_ENDED, detail, actor=getpass.getuser(), reason=reason)
            await append_now(users.redis, record)
        return ended

    ended = _run(end)
    if ended:
        _log(SecurityEvent.SESSION_REVOKED, user=name, count=ended)
    if as_json:
        print_json({"name": name, "sessions_ended": ended})
    else:
        print(f"Sessions ended: {ended}.")
    raise typer.Exit(0 if ended else 1)


@app.command()
def seal(reason: ReasonOption = "", yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Seal the accounts that an earlier version stored, so that they can log in again. Needed once after the upgrade.

    Shows them first: an account that you do not know was written to Redis by another program; remove it instead.

    Example: spokes user seal
    """
    unsealed = _run(lambda users, _: users.unsealed())
    if not unsealed:
        if as_json:
            print_json({"sealed": []})
        else:
            print("Every account is sealed.")
        return
    rows = ((user.name, ", ".join(sorted(user.roles)), str(_portal_list(user) or "all")) for user in unsealed)
    if not as_json:
        print_table(("Name", "Roles", "Portals"), rows)
    confirm(f"Seal {len(unsealed)} accounts with these roles?", yes=yes)

    async def seal_all(users: Users, _: Sessions) -> list[str]:
        sealed = []
        for user in unsealed:
            detail = {"user": user.name, "roles": sorted(user.roles), "portals": _portal_list(user)}
            record = operator_record(Action.USER_CHANGED, detail, actor=getpass.getuser(), reason=reason)
            if await users.seal(user.name, record=record):
                sealed.append(user.name)
        return sealed

    sealed = _run(seal_all)
    for name in sealed:
        _log(SecurityEvent.USER_CHANGED, user=name, change="sealed")
    if as_json:
        print_json({"sealed": sealed})
    else:
        print(f"Sealed: {', '.join(sealed)}.")


def login_link(name: NameArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Print a login link for an account. It works once, within ten minutes.

    Exit code 1 when there is no such account.

    Example: spokes login-link ada
    """
    record = operator_record(Action.LINK_MADE, {"user": name}, actor=getpass.getuser(), reason=reason)

    async def create(users: Users, _: Sessions) -> str:
        return await users.create_login_link(name, record=record) if await users.find(name) else ""

    token = _run(create)
    if not token:
        print_message(f"There is no account {name}. Create it first: spokes user add {name} --role viewer")
        raise typer.Exit(1)
    _log(SecurityEvent.LINK_MADE, user=name)
    settings = Settings.from_env()
    base = settings.public_url.rstrip("/") or f"{_LOCAL_URL}:{settings.port}"
    link = f"{base}/console/login/{token}"
    if as_json:
        print_json({"name": name, "link": link})
    else:
        print(link)


def _log(event: SecurityEvent, **fields: object) -> None:
    log_security_event(event, by=getpass.getuser(), **fields)


def _read_password(*, from_stdin: bool) -> str:
    password = sys.stdin.readline().rstrip("\n") if from_stdin else _ask("Password: ")
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise ConfigurationError(
            [f"A password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters. The account is unchanged."]
        )
    if not from_stdin and _ask("Repeat the password: ") != password:
        raise ConfigurationError(["The two passwords differ. The account is unchanged: run the command again."])
    return password


def _ask(prompt: str) -> str:
    """Return a line that is typed without being shown.

    Raises:
        ConfigurationError: there is no terminal on which to type it.
    """
    if sys.stdin is not None:
        with contextlib.suppress(EOFError):
            return getpass.getpass(prompt)
    raise ConfigurationError(
        ["A password is typed in a terminal, and there is none. Add --password-stdin. The account is unchanged."]
    )


def _portal_list(user: User) -> list[int] | None:
    return None if user.portals is None else sorted(user.portals)


def _run(action: Callable[[Users, Sessions], Awaitable[T]]) -> T:
    settings = Settings.from_env(required=("CONSOLE_KEY",))

    async def with_redis() -> T:
        async with operator_redis(settings) as redis:
            return await action(Users(redis, Seals.from_settings(settings)), Sessions.from_settings(redis, settings))

    return asyncio.run(with_redis())
