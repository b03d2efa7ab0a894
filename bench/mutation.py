"""Mutation testing of the modules that make decisions.

`make mutation` applies each mutation to a copy of the tree and runs only the tests of its module. A mutant that
survives is either excused in bench/mutation_excuses.toml, with a reason, or printed, and the exit code is 1.
"""

import argparse
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from bench.lib.tables import progress_bar, table, write_section
from bench.mutating.runs import ROOT, BaselineFailed, Mutant, lua_mutants, python_mutants

_EXCUSES: Final = Path(__file__).with_name("mutation_excuses.toml")
_CAST: Final = re.compile(r'cast\((?:None|"[^"]*"), ')
_BUILD: Final = ROOT / "build" / "mutation"


class MutationTarget(NamedTuple):
    """The files of one module, and the tests that must kill every mutant of them."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    mutmut_options: tuple[str, ...] = ()  # further arguments of pytest


MODULES: Final = {
    "signature": MutationTarget(("spokes/core/signature.py",), ("tests/core/test_signature.py",)),
    "admission": MutationTarget(
        ("spokes/intake/admission.py", "spokes/intake/admission.lua", "spokes/intake/dedupe/mark_sets.lua"),
        ("tests/intake/test_admission.py", "tests/intake/dedupe/test_marks.py"),
    ),
    "resolution": MutationTarget(("workers/lanes/resolution.py",), ("tests/workers/lanes/test_resolution.py",)),
    "rate_budget": MutationTarget(
        ("spokes/crm/transport/rate_budget.py", "spokes/crm/transport/slot.py", "spokes/crm/transport/rate_budget.lua"),
        (
            "tests/crm/transport/test_slot.py",
            "tests/crm/transport/test_rate_budget_script.py",
            "tests/crm/transport/test_rate_budget_slots.py",
            "tests/crm/transport/test_rate_budget_shares.py",
            "tests/crm/transport/test_rate_budget.py",
            "tests/crm/transport/test_round_trips.py",
            "tests/crm/transport/test_calls_left_to_imports.py",
        ),
        # mutmut does not count calls in the processes that this test starts.
        ("--deselect=tests/crm/transport/test_rate_budget.py::test_limit_holds_over_processes_and_is_used",),
    ),
    "pacing": MutationTarget(
        ("spokes/crm/transport/pacing.py", "spokes/crm/batching/queue_pace.py"),
        ("tests/crm/transport/test_pacing.py", "tests/crm/batching/test_queue_pace.py"),
        # The simulations take half a minute, and show what the pauses are good for, not how long they are.
        ("-k", "not reads_and_writes and not write_follows_its_read and not three_calls_in_turn and not day_of_work"),
    ),
    "lanes": MutationTarget(
        (
            "workers/lanes/lanes.py",
            "workers/lanes/acquire_lanes.lua",
            "spokes/core/redis/arguments.lua",
            "workers/lanes/surviving_id.lua",
            "workers/queue/renew_leases.lua",
        ),
        (
            "tests/workers/lanes/test_lane_manager.py",
            "tests/workers/lanes/test_lanes.py",
            "tests/workers/queue/test_leases.py",
        ),
    ),
    "chain": MutationTarget(("spokes/audit/chain.py",), ("tests/audit/test_chain.py",)),
}
_FORMER_NAMES: Final = {"backoff": "resolution", "budget": "rate_budget"}  # accepted for one release


def main() -> int:
    """Run the mutants of the selected modules; return 0 if every survivor is excused."""
    options = _options()
    excuses = read_excuses()
    rows, unexcused = [], []
    for name in options.modules:
        for file in MODULES[name].files:
            try:
                mutants = _run_mutants(name, file, options.at_a_time)
            except BaselineFailed as error:
                print(error, file=sys.stderr)
                return 2
            mutants = [mutant for mutant in mutants if not _only_changes_cast(mutant)]
            survivors = [mutant for mutant in mutants if not mutant.killed]
            open_ones = [mutant for mutant in survivors if not _is_excused(mutant, excuses[file])]
            unexcused += open_ones
            killed = len(mutants) - len(survivors)
            rows.append([name, f"`{file}`", str(len(mutants)), str(killed), str(len(survivors) - len(open_ones))])
            rows[-1].append(str(len(open_ones)))
    text = table(["module", "file", "mutants", "killed", "excused", "survived"], rows)
    print(text)
    for mutant in unexcused:
        print(f"{mutant.file}\n  - {mutant.original}\n  + {mutant.mutated}")
    if options.write:
        write_section(ROOT / "docs" / "mutation.md", "Table", text)
        write_section(ROOT / "docs" / "mutation.md", "Excuses", excuses_as_text(options.modules, excuses))
    return 1 if unexcused else 0


def read_excuses() -> dict[str, list[dict[str, str]]]:
    """Return the excused mutants by file: the original code (`was`), the mutated code (`becomes`) and the reason."""
    by_file: dict[str, list[dict[str, str]]] = defaultdict(list)
    for excuse in tomllib.loads(_EXCUSES.read_text())["excuse"]:
        becomes = excuse["becomes"] if isinstance(excuse["becomes"], list) else [excuse["becomes"]]
        by_file[excuse["file"]] += [{**excuse, "becomes": each} for each in becomes]
    return by_file


def excuses_as_text(modules: Sequence[str], excuses_by_file: dict[str, list[dict[str, str]]]) -> str:
    """Return the excuses as Markdown, one line for each original code and reason."""
    lines: list[str] = []
    for file in (file for name in modules for file in MODULES[name].files):
        reasons = dict.fromkeys((excuse["was"], excuse["why"]) for excuse in excuses_by_file.get(file, ()))
        if reasons:
            lines += [f"\n`{file}`\n", *(f"- `{was}`: {why}" for was, why in reasons)]
    return "\n".join(lines)


def _run_mutants(name: str, file: str, parallel: int) -> list[Mutant]:
    tests = MODULES[name].tests
    if file.endswith(".py"):
        print(f"{file}: mutmut, with {' '.join(tests)}", file=sys.stderr)
        return python_mutants(file, (*tests, *MODULES[name].mutmut_options), _BUILD / name)
    with progress_bar() as progress:
        task = progress.add_task(file, total=None)
        return lua_mutants(
            file,
            tests,
            _BUILD / f"{name}-{Path(file).stem}",
            parallel=parallel,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _only_changes_cast(mutant: Mutant) -> bool:
    """Return whether a mutant only changes the type argument of `cast`, which has no effect at run time."""
    was, becomes = (_CAST.sub("cast(", code) for code in (mutant.original, mutant.mutated))
    return not mutant.killed and was == becomes


def _is_excused(mutant: Mutant, excuses: Iterable[dict[str, str]]) -> bool:
    return any((mutant.original, mutant.mutated) == (excuse["was"], excuse["becomes"]) for excuse in excuses)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "modules",
        nargs="*",
        metavar="module",
        choices=[*MODULES, *_FORMER_NAMES, []],
        help=f"of {', '.join(MODULES)}; default: all",
    )
    parser.add_argument(
        "--at-a-time", type=int, default=2, help="number of copies of the tree for mutants of Lua, default 2"
    )
    parser.add_argument("--write", action="store_true", help="write the table into docs/mutation.md")
    options = parser.parse_args()
    # Not the default of add_argument: argparse would check the list as one choice.
    options.modules = [_FORMER_NAMES.get(name, name) for name in options.modules] or list(MODULES)
    return options


if __name__ == "__main__":
    sys.exit(main())
