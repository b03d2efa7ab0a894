"""`up`: run web process, workers and, where none is configured, Valkey and the simulator in one terminal."""

import asyncio
import contextlib
import os
import secrets
import shlex
import shutil
import signal
import sys
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeVar

import typer

from spokes.console.accounts.seals import Seals
from spokes.console.local.embedded_valkey import is_listening, log_file, valkey_command
from spokes.console.local.first_login import create_first_login
from spokes.console.local.handler_needs import handler_needs
from spokes.console.local.processes import Processes, die_with_parent
from spokes.console.local.reloading import run_with_reload
from spokes.console.local.running_stack import save_environment
from spokes.core.errors import ConfigurationError
from spokes.core.masking import derive_key
from spokes.core.master_key import load_master_key
from spokes.core.process.child_command import module_command, module_environment
from spokes.core.process.listening_port import check_address, check_loopback, free_port
from spokes.core.process.private_files import private_folder
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.routing import Router, load_router
from spokes.start_check import read_settings

_START_TIMEOUT_S: Final = 30.0
_TERMINAL_VARIABLES: Final = frozenset({"FORCE_COLOR", "LOG_FORMAT"})  # of this terminal, not of other commands'
_LAST_LINES_S: Final = 0.2  # until the last lines of a process that has ended are printed
T = TypeVar("T")


class UpOptions(NamedTuple):
    """The options of the command."""

    workers: int
    traffic: float
    own_properties: tuple[str, ...]
    is_reloading: bool


def up(
    workers: Annotated[int, typer.Option(help="Number of worker processes.", min=0)] = 1,
    traffic: Annotated[
        float, typer.Option(help="Edits per second that the simulator makes, when it plays HubSpot.")
    ] = 1.0,
    own_properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            metavar="TYPE.NAME[:KIND]",
            help="A property that your HubSpot account has added, such as contacts.favourite_colour or "
            "deals.renewal:date, for the simulator. Repeat it for more.",
        ),
    ] = None,
    is_reloading: Annotated[
        bool, typer.Option("--reload", help="Restart web process and workers when a file of the handlers changes.")
    ] = False,
    with_parent: Annotated[bool, typer.Option(hidden=True, help="Stop when the parent process ends.")] = False,
) -> None:
    """Run everything in this terminal until Ctrl-C.

    Without REDIS_URL an embedded Valkey keeps the queue in DATA_DIR; without DATABASE_URL the audit is SQLite there;
    without HUBSPOT_ACCESS_TOKEN and HUBSPOT_CLIENT_ID the simulator plays HubSpot.

    Example: spokes up --workers 2
    """
    if with_parent:
        die_with_parent()
    options = UpOptions(workers, traffic, tuple(own_properties or ()), is_reloading)
    raise typer.Exit(asyncio.run(_up(read_settings(), options)))


async def _up(settings: Settings, options: UpOptions) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    processes = Processes()
    saved: Path | None = None
    try:
        if env := await _run_until_stopped(stop, _start(settings, processes, options)):
            shared = {name: value for name, value in env.items() if name not in _TERMINAL_VARIABLES}
            saved = save_environment(settings.data_dir, shared)
            base = f"http://127.0.0.1:{env['PORT']}"
            link = _print_console_link(settings, processes, base, env.get("CONSOLE_KEY", ""))
            await _run_until_stopped(stop, link)
        if env and not stop.is_set():
            supervised = _supervise(settings, processes, env, is_reloading=options.is_reloading)
            ended = await _run_until_stopped(stop, supervised)
            if ended:
                print(f"{ended}; stopping the others.", file=sys.stderr)
                return 1
    finally:
        if saved:
            saved.unlink(missing_ok=True)
        await processes.stop()
    return 0


async def _supervise(settings: Settings, processes: Processes, env: dict[str, str], *, is_reloading: bool) -> str:
    """Wait until a process ends by itself; return a sentence about it."""
    if not is_reloading:
        return await processes.wait_for_exit()
    simulator_url = "" if _is_hubspot_chosen(settings) else env["HUBSPOT_API_URL"]
    return await run_with_reload(settings.handlers, processes, env, simulator_url=simulator_url)


def _is_hubspot_chosen(settings: Settings) -> bool:
    """Return whether the settings name an app at HubSpot, so that no simulator plays it."""
    return bool(settings.hubspot_access_token.get_secret_value() or settings.hubspot_client_id)


async def _start(settings: Settings, processes: Processes, options: UpOptions) -> dict[str, str]:
    """Start each process after those it depends on; return the variables of this run.

    Raises:
        ConfigurationError: HANDLERS is wrong, `up` runs already, a port is in use, or a process does not start.
    """
    router = load_router(settings.handlers)
    private_folder(settings.data_dir)
    valkey = None if settings.redis_url.get_secret_value() else valkey_command(settings)
    check_loopback()
    check_address("127.0.0.1", settings.port, names="PORT")
    check_address(settings.host, settings.port)
    port = settings.port or free_port()
    env = {
        "DATA_DIR": str(settings.data_dir),
        "PORT": str(port),
        "LOG_FORMAT": settings.log_format,
    }
    if settings.log_format == "auto" and sys.stdout.isatty():
        colours = {} if os.environ.get("NO_COLOR") else {"FORCE_COLOR": "1"}
        env |= {"LOG_FORMAT": "columns", **colours}  # the children write to a pipe, whose lines we print here
    base = f"http://127.0.0.1:{env['PORT']}"
    if valkey:
        await processes.start("valkey", valkey, {})
        await _wait_until_ready(
            lambda: is_listening(settings.embedded_socket),
            f"The embedded Valkey (log: {log_file(settings)})",
            processes,
        )
    env["PUBLIC_URL"] = settings.public_url or base
    if not settings.console_key.get_secret_value():
        env["CONSOLE_KEY"] = derive_key(load_master_key(settings), "console key of up").hex()
    if not _is_hubspot_chosen(settings):
        env |= await _start_simulator(settings, processes, env["PUBLIC_URL"], base, options, router)
    if await _migrate(env):
        raise ConfigurationError(["The audit store could not be migrated, so nothing runs. The lines above say why."])
    await processes.start("web", module_command("ingest"), env)
    for number in range(1, options.workers + 1):
        await processes.start(f"worker {number}", module_command("workers"), env)
    await _wait_until_ready(lambda: _is_ready(f"{base}/readyz"), "The web process", processes)
    print(f"Ready: {base}{RECEIVER_PATH} accepts deliveries signed for {env['PUBLIC_URL']}. Ctrl-C stops.")
    command = _shell_command()
    print(
        f"In another terminal: {command} send contact.creation --wait 10, {command} events, {command} doctor.",
        flush=True,
    )
    return env


def _shell_command() -> str:
    """Return how a shell in this folder calls `spokes`: by its path, unless the PATH leads to this installation."""
    script = Path(sys.executable).with_name("spokes")
    on_path = shutil.which("spokes")
    if not script.exists() or (on_path and Path(on_path).resolve() == script.resolve()):
        return "spokes"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


async def _migrate(env: dict[str, str]) -> int:
    """Create the tables of the audit store; return the exit code. A cancelled call ends its process too."""
    migrate = await asyncio.create_subprocess_exec(
        *module_command("spokes", "migrate"),
        env=module_environment({**os.environ, **env}),
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        return await migrate.wait()
    finally:
        if migrate.returncode is None:
            migrate.terminate()
            await migrate.wait()


async def _print_console_link(settings: Settings, processes: Processes, base: str, console_key: str) -> None:
    """Print how to open the console: with a one-time link if this run generated its key and started Redis."""
    if settings.console_key.get_secret_value() or settings.redis_url.get_secret_value():
        print(f"The console: {_shell_command()} user add NAME --role admin, then {base}/console.", flush=True)
        return
    try:
        await _wait_until_ready(lambda: _is_ready(f"{base}/console/login"), "The console", processes)
    except ConfigurationError as error:  # events are processed without the console
        print(error, file=sys.stderr)
    name, token = await create_first_login(settings, Seals(console_key))
    another = f"{_shell_command()} login-link {name}"
    print(f"The console: {base}/console/login/{token} works once; {another} makes another.", flush=True)


async def _start_simulator(
    settings: Settings,
    processes: Processes,
    public_url: str,
    base: str,
    options: UpOptions,
    router: Router,
) -> dict[str, str]:
    """Start the simulator; return the variables that connect the other processes to it.

    Its app has the scopes and subscriptions that the handlers need, as a well-kept one.
    """
    port, token = str(free_port()), secrets.token_hex(16)
    secret = settings.client_secrets[0] if settings.client_secrets else secrets.token_hex(16)
    command = module_command("spokes.simulator", "--port", port)
    command += ["--target", f"{base}{RECEIVER_PATH}", "--public-url", f"{public_url}{RECEIVER_PATH}"]
    command += ["--traffic", str(options.traffic)]
    needs = handler_needs(router)
    command += ["--scopes", ",".join(needs.scopes), "--events", ",".join(needs.events)]
    for each in options.own_properties:
        command += ["--property", each]
    print("Neither HUBSPOT_ACCESS_TOKEN nor HUBSPOT_CLIENT_ID is set: the simulator plays HubSpot.", flush=True)
    # Not as arguments: every user of the machine can read those.
    await processes.start("simulator", command, {"SIMULATOR_TOKEN": token, "SIMULATOR_CLIENT_SECRET": secret})
    api_url = f"http://127.0.0.1:{port}"
    return {"HUBSPOT_ACCESS_TOKEN": token, "HUBSPOT_CLIENT_SECRET": secret, "HUBSPOT_API_URL": api_url}


async def _run_until_stopped(stop: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """Run `work` until it ends or `stop` is set; return its result, or None if it was stopped."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None
    return await task


async def _wait_until_ready(ready: Callable[[], bool], name: str, processes: Processes) -> None:
    """Poll `ready` until it returns true.

    Raises:
        ConfigurationError: it did not return true within the time limit, or a process ended.
    """
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not await asyncio.to_thread(ready):
                if ended := processes.exited():
                    await asyncio.sleep(_LAST_LINES_S)
                    raise ConfigurationError([f"{ended}. The lines above say why."])
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ConfigurationError(
            [f"{name} did not start within {_START_TIMEOUT_S:.0f} s. The lines above say why."]
        ) from None


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - our own http address
            return bool(response.status == 200)  # noqa: PLR2004 - HTTP's own number
    except OSError:
        return False
