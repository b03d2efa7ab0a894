"""`python -m spokes.simulator demo`: run everything on a simulated HubSpot and compare the audit with the simulator.

The simulator runs in this process; Valkey, web and workers are started by `python -m spokes up` and stopped at the end.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import aiohttp
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from spokes.core.errors import ConfigurationError
from spokes.core.process.child_command import module_command, module_environment
from spokes.core.process.listening_port import check_loopback, free_port
from spokes.core.process.private_files import private_folder
from spokes.core.process.progress_lines import ProgressLines
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.simulator.app import Simulator
from spokes.simulator.config import SimulatorConfig
from spokes.simulator.demo.comparison import ComparisonRow, ExpectedState, compare
from spokes.simulator.demo.outage_act import OutageAct, OutageResult
from spokes.simulator.demo.people import People
from spokes.simulator.demo.portals_act import PortalRow, PortalsAct
from spokes.simulator.demo.scenario import Scenario, demo_config
from spokes.simulator.demo.summary import summary_lines
from spokes.simulator.errors import JsonObject

_PUBLIC_URL: Final = "https://hooks.example.com"  # the URL HubSpot calls and signs; the simulator also plays the proxy
_START_TIMEOUT_S: Final = 90.0  # far more than it takes
_PHASE_TIMEOUT_S: Final = 90.0  # for the events of one phase; far more than they take
_STOP_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.5
_EXAMPLE_HANDLER: Final = Path("handlers", "tickets.py")
_NO_EXAMPLES: Final = (
    "The demo checks what the example handlers do, which a clone has and an installed package has not: run `make demo` "
    "in a clone, or `spokes up` for your own handlers."
)
_CODE: Final = Path(__file__).parents[3]
_MAX_NAMED: Final = 5  # events shown of a row that differs
console: Final = Console(width=None if sys.stdout.isatty() else 110)


def main(argv: Sequence[str]) -> int:
    """Run the demo; return 0 if every row of the comparison agrees."""
    parser = argparse.ArgumentParser(
        prog="python -m spokes.simulator demo",
        description="Simulate a day at HubSpot for one web process and two workers, then compare the audit with "
        "the simulator's state. Exit code 0 if every row agrees.",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices (default: %(default)s)")
    parser.add_argument(
        "--size",
        type=float,
        default=1.0,
        help="amount of edits; 1 causes more than 2,000 events (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=2, help="number of worker processes (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the data and the log")
    arguments = parser.parse_args(argv)
    if not any((folder / _EXAMPLE_HANDLER).is_file() for folder in (Path.cwd(), _CODE)):
        raise ConfigurationError([_NO_EXAMPLES])
    data = Settings.from_env().data_dir / f"demo-{os.getpid()}-{secrets.token_hex(3)}"
    try:
        return asyncio.run(_until_signalled(arguments, data))
    except (asyncio.CancelledError, KeyboardInterrupt):
        console.print("Stopped; all processes have ended.")
        return 130
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise ConfigurationError(
            [f"The demo could not go on ({type(error).__name__}). What its processes wrote is in {data}/log.txt."]
        ) from error


async def _until_signalled(arguments: argparse.Namespace, data: Path) -> int:
    run = asyncio.current_task()
    assert run is not None  # noqa: S101 - this coroutine runs in a task
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, run.cancel)
    is_needed = arguments.keep
    try:
        check_loopback()
        private_folder(data)
        rows = await play_demo(data, seed=arguments.seed, size=arguments.size, workers=arguments.workers)
        is_needed |= not all(row.agrees for row in rows)
    except asyncio.CancelledError:
        raise
    except BaseException:
        is_needed = True
        raise
    finally:
        if is_needed and (data / "log.txt").exists():
            console.print(f"Data and log are in {data}.")
        else:
            shutil.rmtree(data, ignore_errors=True)
    return 0 if all(row.agrees for row in rows) else 1


async def play_demo(
    data: Path, *, seed: int, size: float, workers: int, environ: Mapping[str, str] | None = None
) -> list[ComparisonRow]:
    """Run processes with their data in `data`, play the scenario and print the comparison.

    Args:
        data: an empty folder.
        seed: of all random choices.
        size: amount of edits.
        workers: number of worker processes.
        environ: further settings, such as REDIS_URL of an empty Redis to use instead of the embedded Valkey.
    """
    started = time.monotonic()
    port, token, secret = free_port(), secrets.token_hex(16), secrets.token_hex(16)
    base = f"http://127.0.0.1:{port}"
    async with Simulator(_simulator_config(base, seed=seed, token=token, secret=secret)) as sim:
        env = {
            "DATA_DIR": str(data),
            "PORT": str(port),
            "HUBSPOT_CLIENT_SECRET": secret,
            "HUBSPOT_ACCESS_TOKEN": token,
            "HUBSPOT_API_URL": sim.url,
            "PUBLIC_URL": _PUBLIC_URL,
            "TRUSTED_PROXIES": "1",
            "RETRY_SCHEDULE_S": "1,2,3,5,8,8,8,8",
            **(environ or {}),
        }
        async with _processes(env, workers, data):
            rows, records = await _play_day(sim, env, base, seed=seed, size=size)
        _print_rows(rows)
        for line in summary_lines(sim, records, time.monotonic() - started):
            console.print(line, soft_wrap=True)
        act = OutageAct(sim, Random(f"{seed} outage"), size)
        outage = await _play_outage(act, env, base, workers=workers, data=data)
    _print_rows(outage.rows)
    console.print(outage.sentence, soft_wrap=True)
    with console.status("Three portals install the app by OAuth, and one removes it"):
        portals = await _play_portals(data, seed=seed, size=size, workers=workers)
    _print_portals(portals)
    console.print(f"{time.monotonic() - started:.0f} s in total.", soft_wrap=True)
    return [*rows, *outage.rows, *(ComparisonRow(f"portal {row.portal_id}", row.difference, "") for row in portals)]


def _simulator_config(base: str, *, seed: int, token: str, secret: str) -> SimulatorConfig:
    """Return a simulator that signs deliveries for the public URL, and sends them to the web process at `base`."""
    return demo_config(
        seed=seed,
        public_url=f"{_PUBLIC_URL}{RECEIVER_PATH}",
        connect_url=f"{base}{RECEIVER_PATH}",
        token=token,
        secret=secret,
    )


async def _play_day(
    sim: Simulator, env: dict[str, str], base: str, *, seed: int, size: float
) -> tuple[list[ComparisonRow], list[JsonObject]]:
    """Play the scenario with the running processes; return the comparison, and the audit records it is made of."""
    with console.status("Starting Valkey, web and workers"):
        await wait_until_ready(base)
    people = People(sim, Random(f"{seed} people"))
    scenario = Scenario(sim, people, Random(f"{seed} simulator_config"), size)
    await _play_scenario(scenario, env)
    records = await _export_audit(env)
    intact = await run_command(env, "audit", "verify") is not None
    return list(compare(scenario, records, chain_intact=intact)), records


async def _play_outage(act: OutageAct, env: dict[str, str], base: str, *, workers: int, data: Path) -> OutageResult:
    """Pass hours without any process; then run processes that read HubSpot's journal, and return what it brought in."""
    with console.status("30 hours of HubSpot's time without a web process"):
        await act.pass_hours()
    with console.status("The web process is back, and reads HubSpot's journal"):
        env = act.settings(env)
        async with _processes(env, workers, data):
            await wait_until_ready(base)
            return await act.result(partial(_export_audit, env))


async def _play_portals(data: Path, *, seed: int, size: float, workers: int) -> list[PortalRow]:
    """Run the act of the portals, in a deployment of its own: it has no access token."""
    port, secret = free_port(), secrets.token_hex(16)
    base = f"http://127.0.0.1:{port}"
    async with Simulator(_simulator_config(base, seed=seed, token="", secret=secret)) as sim:
        folder = private_folder(data / "portals")
        env = {
            "DATA_DIR": str(folder),
            "PORT": str(port),
            "HUBSPOT_CLIENT_ID": sim.installs.config.client_id,
            "HUBSPOT_CLIENT_SECRET": secret,
            "HUBSPOT_API_URL": sim.url,
            "HUBSPOT_APP_URL": sim.url,
            "SECRETS_KEY": secrets.token_hex(32),
            "CONSOLE_KEY": secrets.token_hex(32),
            "PUBLIC_URL": _PUBLIC_URL,
            "TRUSTED_PROXIES": "1",
        }
        async with _processes(env, workers, folder):
            await wait_until_ready(base)
            await wait_until_ready(base, "/console/login")  # the console's process serves installs
            act = PortalsAct(sim, base, _PUBLIC_URL, partial(run_command, env), size, Random(f"{seed} portals"))
            return await act.play()


@asynccontextmanager
async def _processes(env: dict[str, str], workers: int, data: Path) -> AsyncIterator[None]:
    """Run Valkey, web and workers as processes in their own session, so that Ctrl-C reaches only this process."""
    command = module_command("spokes", "up", "--workers", str(workers), "--with-parent")
    with (data / "log.txt").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=clean_environment(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _play_scenario(scenario: Scenario, env: dict[str, str]) -> None:
    """Run the scenario, and wait after each phase until its events are processed."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    is_terminal = sys.stdout.isatty()
    lines = ProgressLines("Events processed")
    with (
        Progress(*columns, console=console, disable=not is_terminal) as progress,
        nullcontext() if is_terminal else lines,
    ):
        sent = progress.add_task("events delivered", total=None)
        done = progress.add_task("events processed", total=None)
        watching = asyncio.create_task(_show_sent(scenario, progress, sent))
        try:
            async for phase in scenario.phases():
                progress.update(done, description=f"processed: {phase}")
                await _wait_until_processed(scenario, env, progress, done, lines)
        finally:
            watching.cancel()
        progress.update(done, description="events processed")


async def _show_sent(scenario: Scenario, progress: Progress, sent: TaskID) -> None:
    while True:
        total = len(scenario.sim.deliveries.events)
        progress.update(sent, completed=sum(scenario.sim.deliveries.counts.values()) if total else 0, total=total)
        await asyncio.sleep(0.1)


async def _wait_until_processed(
    scenario: Scenario, env: dict[str, str], progress: Progress, done: TaskID, lines: ProgressLines
) -> None:
    """Wait until the audit has a final outcome of every event, and a record of every refused request."""
    deadline = time.monotonic() + _PHASE_TIMEOUT_S
    while time.monotonic() < deadline:
        await scenario.sim.sender.wait_until_drained()  # our own writes cause events too
        expected_state = ExpectedState(scenario)
        records = await _export_audit(env)
        ended, expected = expected_state.count_settled(records), len(expected_state.outcomes)
        progress.update(done, completed=ended, total=expected)
        lines.update(ended, expected)
        refused = sum(
            sum(record["detail"]["reasons"].values()) for record in records if record["action"] == "requests.refused"
        )
        if ended == expected == len(ExpectedState(scenario).outcomes) and refused >= sum(scenario.refused.values()):
            return
        await asyncio.sleep(_POLL_S)


async def wait_until_ready(base: str, path: str = "/readyz") -> None:
    """Wait until the web process accepts deliveries, or serves another path."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(_START_TIMEOUT_S):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(
                    f"{base}{path}", headers={"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
                ) as response:
                    if response.ok:
                        return
            await asyncio.sleep(0.1)


async def _export_audit(env: dict[str, str]) -> list[JsonObject]:
    """Export the audit records, as an operator would."""
    output = await run_command(env, "audit", "export", "--format", "jsonl")
    return [orjson.loads(line) for line in (output or b"").splitlines()]


async def run_command(env: dict[str, str], *command: str) -> bytes | None:
    """Run a `spokes` command; return its output, or None if it failed."""
    process = await asyncio.create_subprocess_exec(
        *module_command("spokes", *command), env=clean_environment(env), stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return output if process.returncode == 0 else None


def _print_rows(rows: list[ComparisonRow]) -> None:
    table = Table("", "audit", "simulator", "", title="Audit compared with the simulator's state")
    for row in rows:
        named = ", ".join(row.differing[:_MAX_NAMED]) + (" ..." if len(row.differing) > _MAX_NAMED else "")
        result = "[green]agrees" if row.agrees else f"[red]DIFFERS[/] {named}"
        table.add_row(row.name, str(row.reported), str(row.expected), result)
    console.print(table)


def _print_portals(rows: list[PortalRow]) -> None:
    """Print the outcomes of the portals' events, and with whose token their calls were made."""
    columns = ("portal", "state", "events", "outcomes", "calls", "with another token", "refreshes", "")
    table = Table(*columns, title="Three portals that installed the app by OAuth; one removed it while events arrived")
    for row in rows:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(row.outcomes.items()))
        result = "[green]agrees" if row.agrees else f"[red]DIFFERS[/] {row.difference}"
        table.add_row(
            str(row.portal_id), row.state, str(row.events), outcomes, str(row.calls), str(row.foreign_calls),
            str(row.refreshes), result,
        )  # fmt: skip
    console.print(table)


def clean_environment(env: dict[str, str]) -> dict[str, str]:
    """Return this process's environment without Spokes' settings, so that no real deployment is used, plus `env`."""
    ours = {name.upper() for name in Settings.model_fields}
    others = {name: value for name, value in os.environ.items() if name not in ours}
    return module_environment({**others, "ENV_FILE": "", **env})
