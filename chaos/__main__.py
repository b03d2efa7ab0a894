"""`python -m chaos`: one run from the command line. It prints the command that repeats the run."""

import argparse
import asyncio
import random
import shutil
import signal
import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from chaos.facts import Facts
from chaos.invariants import INVARIANTS, violations
from chaos.plan import DisruptionKind
from chaos.run import Options, run
from chaos.stack import run_folder_name
from spokes.core.settings import Settings

console = Console(width=None if sys.stdout.isatty() else 110)


def main() -> int:
    """Run once; return 0 if every invariant holds."""
    arguments = _parser().parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    kinds = tuple(DisruptionKind[name.upper()] for name in arguments.only) or tuple(DisruptionKind)
    redis_server = shutil.which(arguments.redis_server) if arguments.redis_server else None
    if arguments.redis_server and redis_server is None:
        console.print(f"--redis-server: {arguments.redis_server} was not found, or is not a program.")
        return 2
    options = Options(
        arguments.seed,
        arguments.minutes * 60,
        arguments.workers,
        arguments.rate,
        arguments.fsync,
        arguments.other,
        kinds,
        redis_server,
    )
    folder = (Settings.from_env().data_dir / run_folder_name()).resolve()
    folder.mkdir(parents=True)
    _print_repeat_command(arguments)
    keep = True
    try:
        facts = asyncio.run(_until_signalled(options, folder))
        holds = _print_result(facts)
        keep = arguments.keep or not holds
        if keep:
            (folder / "facts.json").write_bytes(orjson.dumps(facts, default=list, option=orjson.OPT_INDENT_2))
        if not holds:
            _print_repeat_command(arguments)
    except (asyncio.CancelledError, KeyboardInterrupt):
        keep = arguments.keep
        console.print("Stopped; all processes have ended.")
        return 130
    except (TimeoutError, ExceptionGroup) as error:
        if isinstance(error, ExceptionGroup) and error.split(TimeoutError)[1]:
            raise
        console.print("[red]NOT RUN[/] A process did not start in time; see its log.")
        return 2
    finally:
        if keep:
            console.print(f"Data and logs are in {folder}.", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return int(not holds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description="Run web, workers, Valkey, PostgreSQL and a simulated HubSpot under load, apply every "
        "disruption of chaos/plan.py, and then check the invariants of chaos/invariants.py.",
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="duration of the disruptions (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="seed of the plan (default: random)")
    parser.add_argument("--workers", type=int, default=3, help="number of worker processes (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=40.0, help="edits a second at HubSpot (default: %(default)s)")
    parser.add_argument(
        "--fsync",
        choices=("everysec", "always"),
        default="always",
        help="appendfsync of Valkey; with everysec a killed Valkey can lose acknowledged writes (default: %(default)s)",
    )
    parser.add_argument(
        "--other",
        default="HEAD~1",
        help="git revision that runs together with this one for a while (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[kind.name.lower() for kind in DisruptionKind],
        metavar="KIND",
        help="apply only this kind of disruption; may be repeated; one of: %(choices)s",
    )
    parser.add_argument(
        "--redis-server",
        metavar="PATH",
        help="server to run instead of Valkey, such as redis-server of Redis 6.2 or later, by path or name",
    )
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    return parser


def _print_repeat_command(arguments: argparse.Namespace) -> None:
    options = [
        f"--{name} {getattr(arguments, name)}" for name in ("seed", "minutes", "workers", "rate", "fsync", "other")
    ]
    if arguments.redis_server:
        options.append(f"--redis-server {arguments.redis_server}")
    options += [f"--only {name}" for name in arguments.only]
    console.print(f"Repeat with: python -m chaos {' '.join(options)}", soft_wrap=True, highlight=False)


async def _until_signalled(options: Options, folder: Path) -> Facts:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this coroutine runs in a task
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    columns = (BarColumn(20), TimeElapsedColumn(), TextColumn("{task.fields[counts]} | {task.description}"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("starting", total=options.seconds, counts="")

        def report(seconds: float, disruptions: str, counts: str) -> None:
            progress.update(bar, completed=min(seconds, options.seconds), description=disruptions, counts=counts)

        return await run(options, folder, report)


def _print_result(facts: Facts) -> bool:
    """Print the result; return whether every invariant holds."""
    violated = violations(facts)
    outcomes = [outcome for final in facts.outcomes.values() for outcome in final]
    shares = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes)))
    repeats = sum(len(times) - 1 for times in facts.note_times.values())
    console.print(
        f"{len(facts.disruptions)} disruptions; {len(facts.accepted)} events acknowledged: {shares}; "
        f"{len(facts.once_counts)} effects of tools.once; {len(facts.note_times)} notes, {repeats} repeated; "
        f"{facts.token_refreshes} refreshes of OAuth tokens; {facts.envelopes} envelopes at Sentry.",
        soft_wrap=True,
    )
    for violation in violated:
        console.print(f"[red]VIOLATED[/] {violation}", soft_wrap=True, highlight=False)
    if not violated:
        console.print(f"All {len(INVARIANTS)} invariants hold.")
    return not violated


if __name__ == "__main__":
    sys.exit(main())
