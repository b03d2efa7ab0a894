"""`python -m chaos`: one run from the command line. Rule: a run that fails says how to run it again."""

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
    """Run; return 0 when every invariant holds."""
    asked = _parser().parse_args()
    if asked.seed is None:
        asked.seed = random.SystemRandom().randrange(1_000_000)
    kinds = tuple(DisruptionKind[name.upper()] for name in asked.only) or tuple(DisruptionKind)
    options = Options(asked.seed, asked.minutes * 60, asked.workers, asked.rate, asked.fsync, asked.other, kinds)
    folder = (Settings.from_env().data_dir / run_folder_name()).resolve()
    folder.mkdir(parents=True)
    _print_repeat_command(asked)
    keep = True
    try:
        facts = asyncio.run(_until_signalled(options, folder))
        holds = _print_result(facts)
        keep = asked.keep or not holds
        if keep:
            (folder / "facts.json").write_bytes(orjson.dumps(facts, default=list, option=orjson.OPT_INDENT_2))
        if not holds:
            _print_repeat_command(asked)
    except (asyncio.CancelledError, KeyboardInterrupt):
        keep = asked.keep
        console.print("Stopped; nothing is left running.")
        return 130
    except (TimeoutError, ExceptionGroup) as error:
        if isinstance(error, ExceptionGroup) and error.split(TimeoutError)[1]:
            raise
        console.print("[red]NOT RUN[/] Something did not come up in time; its log says why.")
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
        description="Run web, workers, Valkey, PostgreSQL and a simulated HubSpot under load, break them in every way "
        "of chaos/plan.py, and then check what must be true whatever went wrong (chaos/invariants.py).",
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long trouble lasts (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="same seed, same plan (default: any)")
    parser.add_argument("--workers", type=int, default=3, help="worker processes (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=40.0, help="edits a second at HubSpot (default: %(default)s)")
    parser.add_argument(
        "--fsync",
        choices=("everysec", "always"),
        default="always",
        help="of Valkey; with everysec a killed one may lose what it has answered (default: %(default)s)",
    )
    parser.add_argument(
        "--other", default="HEAD~1", help="the version that runs beside this one for a while (default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[kind.name.lower() for kind in DisruptionKind],
        metavar="KIND",
        help="no other kind of trouble; may be repeated; of: %(choices)s",
    )
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    return parser


def _print_repeat_command(asked: argparse.Namespace) -> None:
    words = [f"--{name} {getattr(asked, name)}" for name in ("seed", "minutes", "workers", "rate", "fsync", "other")]
    words += [f"--only {name}" for name in asked.only]
    console.print(f"Again with: python -m chaos {' '.join(words)}", soft_wrap=True, highlight=False)


async def _until_signalled(options: Options, folder: Path) -> Facts:
    this = asyncio.current_task()
    assert this is not None  # noqa: S101 - we are in it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    columns = (BarColumn(20), TimeElapsedColumn(), TextColumn("{task.fields[far]} | {task.description}"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("starting", total=options.seconds, far="")

        def tell(seconds: float, what: str, far: str) -> None:
            progress.update(bar, completed=min(seconds, options.seconds), description=what, far=far)

        return await run(options, folder, tell)


def _print_result(facts: Facts) -> bool:
    """Print what was found; return whether all is well."""
    found = violations(facts)
    ends = [end for some in facts.outcomes.values() for end in some]
    shares = ", ".join(f"{ends.count(end)} {end}" for end in sorted(set(ends)))
    repeats = sum(len(times) - 1 for times in facts.note_times.values())
    console.print(
        f"{len(facts.disruptions)} troubles; {len(facts.accepted)} events taken: {shares}; "
        f"{len(facts.once_counts)} effects to be had once; {len(facts.note_times)} others, {repeats} times again.",
        soft_wrap=True,
    )
    for violation in found:
        console.print(f"[red]VIOLATED[/] {violation}", soft_wrap=True, highlight=False)
    if not found:
        console.print(f"All {len(INVARIANTS)} invariants hold.")
    return not found


if __name__ == "__main__":
    sys.exit(main())
