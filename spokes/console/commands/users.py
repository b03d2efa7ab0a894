"""`user add|list|remove|logout`, `login-link`: who may log in. Rule: a password is no argument, an act is audited."""

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import typer

from spokes.audit.records import Action
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import Sessions
from spokes.console.accounts.users import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, NAME_PATTERN, User, Users
from spokes.console.operator_audit import append_record, operator_record
from spokes.console.output import JsonOption, ReasonOption, YesOption, confirm, print_json, print_message, print_table
from spokes.core.errors import ConfigurationError
from spokes.core.masking import derive_key
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Say who may log in to the console.")

T = TypeVar("T")
NameArgument = Annotated[str, typer.Argument(help="The account's name: lower case, such as ada or ada@example.com.")]
_LOCAL_URL: Final = "http://localhost"


@app.command()
def add(
    name: NameArgument,
    role: Annotated[list[Role], typer.Option(help="What they are; may be given several times.")],
    portal: Annotated[list[int] | None, typer.Option(help="A portal they see; without any, all.")] = None,
    password_stdin: Annotated[bool, typer.Option(help="Read a password from standard input.")] = False,
    no_password: Annotated[bool, typer.Option(help="They come by `spokes login-link` alone.")] = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make an account, or change one; sessions that are open under this name end.

    You are asked for a password of 12 characters or more.

    Example: spokes user add ada --role operator
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigurationError(["A name has lower-case letters, digits and . _ @ + - only, at most 100."])
    password = "" if no_password else _read_password(from_stdin=password_stdin)

    now = {"roles": sorted(map(str, role)), "portals": portal}
    told = operator_record(Action.USER_CHANGED, {"user": name, **now}, actor=getpass.getuser(), reason=reason)

    async def put(users: Users, sessions: Sessions) -> None:
        await users.put(name, role, portal, password, record=told)
        await sessions.end_all(name)

    _run(put)
    _log_security_event(SecurityEvent.USER_CHANGED, user=name, change="put", roles=now["roles"])
    if as_json:
        print_json({"name": name, "roles": sorted(role), "portals": portal, "password": bool(password)})
    else:
        print(f"{name} can log in." if password else f"{name} can log in by a link: spokes login-link {name}")


@app.command("list")
def list_users(as_json: JsonOption = False) -> None:
    """Show who has an account.

    Example: spokes user list
    """

    async def find(users: Users, _: Sessions) -> tuple[User, ...]:
        return await users.all()

    found = _run(find)
    if as_json:
        print_json(
            *(
                {
                    "name": user.name,
                    "roles": sorted(user.roles),
                    "portals": _portal_list(user),
                    "password": bool(user.password_hash),
                }
                for user in found
            )
        )
        return
    rows = (
        (
            user.name,
            ", ".join(sorted(user.roles)),
            "all" if user.portals is None else ", ".join(map(str, sorted(user.portals))),
            "yes" if user.password_hash else "no, by link",
        )
        for user in found
    )
    if found:
        print_table(("Name", "Roles", "Portals", "Password"), rows)
    else:
        print_message("There is no account: `spokes user add NAME --role admin` makes one.")


@app.command()
def remove(name: NameArgument, reason: ReasonOption = "", yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Remove an account and end its sessions; API tokens are taken back by `spokes token revoke`.

    Exit code 1 when there is no such account.

    Example: spokes user remove ada
    """
    confirm(f"Remove the account {name} and end its sessions?", yes=yes)

    told = operator_record(Action.USER_REMOVED, {"user": name}, actor=getpass.getuser(), reason=reason)

    async def end(users: Users, sessions: Sessions) -> tuple[bool, int]:
        return await users.remove(name, record=told), await sessions.end_all(name)

    removed, ended = _run(end)
    if removed:
        _log_security_event(SecurityEvent.USER_CHANGED, user=name, change="removed")
    if ended:
        _log_security_event(SecurityEvent.SESSION_REVOKED, user=name, count=ended)
    if as_json:
        print_json({"name": name, "removed": removed, "sessions_ended": ended})
    else:
        print(f"{name} is removed; sessions ended: {ended}." if removed else f"There is no account {name}.")
    raise typer.Exit(0 if removed else 1)


@app.command()
def logout(name: NameArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """End every session that is open under a name, also one that an identity provider knows: oidc:ada@example.com.

    Exit code 1 when none was open.

    Example: spokes user logout ada --reason "her laptop was stolen"
    """

    async def end(users: Users, sessions: Sessions) -> int:
        ended = await sessions.end_all(name)
        if ended:
            record = operator_record(
                Action.SESSIONS_ENDED, {"user": name, "count": ended}, actor=getpass.getuser(), reason=reason
            )
            await append_record(users.redis, record)
        return ended

    ended = _run(end)
    if ended:
        _log_security_event(SecurityEvent.SESSION_REVOKED, user=name, count=ended)
    if as_json:
        print_json({"name": name, "sessions_ended": ended})
    else:
        print(f"Sessions ended: {ended}.")
    raise typer.Exit(0 if ended else 1)


def login_link(name: NameArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Print a link that lets somebody with an account in, once and within ten minutes.

    Exit code 1 when there is no such account.

    Example: spokes login-link ada
    """
    told = operator_record(Action.LINK_MADE, {"user": name}, actor=getpass.getuser(), reason=reason)

    async def make(users: Users, _: Sessions) -> str:
        return await users.create_login_link(name, record=told) if await users.find(name) else ""

    word = _run(make)
    if not word:
        print(f"There is no account {name}: spokes user add {name} --role viewer", file=sys.stderr)
        raise typer.Exit(1)
    _log_security_event(SecurityEvent.LINK_MADE, user=name)
    settings = Settings.from_env()
    base = settings.public_url.rstrip("/") or f"{_LOCAL_URL}:{settings.port}"
    link = f"{base}/console/login/{word}"
    if as_json:
        print_json({"name": name, "link": link})
    else:
        print(link)


def _log_security_event(event: SecurityEvent, **fields: object) -> None:
    log_security_event(event, by=getpass.getuser(), **fields)


def _read_password(*, from_stdin: bool) -> str:
    password = sys.stdin.readline().rstrip("\n") if from_stdin else getpass.getpass("Password: ")
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise ConfigurationError([f"A password has {MIN_PASSWORD_LENGTH} characters or more."])
    if not from_stdin and getpass.getpass("Once more: ") != password:
        raise ConfigurationError(["The two passwords differ."])
    return password


def _portal_list(user: User) -> list[int] | None:
    return None if user.portals is None else sorted(user.portals)


def _run(action: Callable[[Users, Sessions], Awaitable[T]]) -> T:
    settings = Settings.from_env(required=("CONSOLE_KEY",))

    async def with_redis() -> T:
        async with redis_client(settings) as redis:
            key = derive_key(settings.console_key.get_secret_value(), "csrf")
            return await action(Users(redis), Sessions(redis, key))

    return asyncio.run(with_redis())
