"""How many small faults in the code that decides go unseen by its tests. Rule: each that does is excused by name.

`make mutation` puts each fault into a copy of the tree and runs the tests of that room alone. A fault that no test sees
is either excused in bench/mutation_excuses.toml, with its reason, or printed, and the exit code is 1.
"""

import argparse
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lib.tables import bar, table, write_section
from mutating.runs import ROOT, Mutant, NotGreen, lua_mutants, python_mutants

_EXCUSES: Final = Path(__file__).with_name("mutation_excuses.toml")
_CAST: Final = re.compile(r'cast\((?:None|"[^"]*"), ')
_BUILD: Final = ROOT / "build" / "mutation"


class Room(NamedTuple):
    """Files that decide one thing, and the tests that are to see every fault in them."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    for_mutmut: tuple[str, ...] = ()  # further words to pytest


ROOMS: Final = {
    "signature": Room(("spokes/core/signature.py",), ("tests/core/test_signature.py",)),
    "admission": Room(
        ("spokes/intake/admission.py", "spokes/intake/admission.lua"),
        ("tests/intake/test_admission.py", "tests/intake/test_dedupe_marks.py"),
    ),
    "backoff": Room(("workers/delivery/resolution.py",), ("tests/workers/test_resolution.py",)),
    "budget": Room(
        ("spokes/crm/transport/rate_budget.py", "spokes/crm/transport/rate_budget.lua"),
        (
            "tests/crm/test_rate_budget_script.py",
            "tests/crm/test_rate_budget_slots.py",
            "tests/crm/test_rate_budget_shares.py",
            "tests/crm/test_rate_budget.py",
        ),
        # mutmut's own count of who calls what does not reach into the processes that this one starts.
        ("--deselect=tests/crm/test_rate_budget.py::test_limit_holds_over_processes_and_is_used",),
    ),
    "lanes": Room(
        ("workers/delivery/lanes.py", "workers/delivery/acquire_lanes.lua", "workers/queue/renew_leases.lua"),
        ("tests/workers/test_lane_manager.py", "tests/workers/test_lanes.py"),
    ),
    "chain": Room(("spokes/audit/chain.py",), ("tests/audit/test_chain.py",)),
}


def main() -> int:
    """Try the rooms that are asked for; 0 if every survivor is excused."""
    options = _options()
    excuses = read_excuses()
    rows, unexcused = [], []
    for name in options.rooms:
        for file in ROOMS[name].files:
            try:
                mutants = _tried(name, file, options.at_a_time)
            except NotGreen as fault:
                print(fault, file=sys.stderr)
                return 2
            mutants = [mutant for mutant in mutants if not _is_for_the_type_checker(mutant)]
            survivors = [mutant for mutant in mutants if not mutant.killed]
            open_ones = [mutant for mutant in survivors if not _is_excused(mutant, excuses[file])]
            unexcused += open_ones
            killed = len(mutants) - len(survivors)
            rows.append([name, f"`{file}`", str(len(mutants)), str(killed), str(len(survivors) - len(open_ones))])
            rows[-1].append(str(len(open_ones)))
    text = table(["room", "file", "faults", "seen", "excused", "unseen"], rows)
    print(text)
    for mutant in unexcused:
        print(f"{mutant.file}\n  - {mutant.was}\n  + {mutant.becomes}")
    if options.write:
        write_section(ROOT / "docs" / "mutation.md", "Table", text)
        write_section(ROOT / "docs" / "mutation.md", "Excuses", excuses_as_text(options.rooms, excuses))
    return 1 if unexcused else 0


def read_excuses() -> dict[str, list[dict[str, str]]]:
    """Return what is excused, by file: the code as it `was`, what it `becomes`, and `why` no test tells them apart."""
    by_file: dict[str, list[dict[str, str]]] = defaultdict(list)
    for excuse in tomllib.loads(_EXCUSES.read_text())["excuse"]:
        becomes = excuse["becomes"] if isinstance(excuse["becomes"], list) else [excuse["becomes"]]
        by_file[excuse["file"]] += [{**excuse, "becomes": each} for each in becomes]
    return by_file


def excuses_as_text(rooms: Sequence[str], excuses: dict[str, list[dict[str, str]]]) -> str:
    """Return the excuses as Markdown, one line for each piece of code and reason."""
    lines: list[str] = []
    for file in (file for name in rooms for file in ROOMS[name].files):
        reasons = dict.fromkeys((excuse["was"], excuse["why"]) for excuse in excuses.get(file, ()))
        if reasons:
            lines += [f"\n`{file}`\n", *(f"- `{was}`: {why}" for was, why in reasons)]
    return "\n".join(lines)


def _tried(name: str, file: str, at_a_time: int) -> list[Mutant]:
    tests = ROOMS[name].tests
    if file.endswith(".py"):
        print(f"{file}: mutmut, with {' '.join(tests)}", file=sys.stderr)
        return python_mutants(file, (*tests, *ROOMS[name].for_mutmut), _BUILD / name)
    with bar() as progress:
        task = progress.add_task(file, total=None)
        return lua_mutants(
            file,
            tests,
            _BUILD / f"{name}-{Path(file).stem}",
            at_a_time=at_a_time,
            told=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _is_for_the_type_checker(mutant: Mutant) -> bool:
    """Whether a fault is in the type that `cast` names, which nothing looks at when the code runs."""
    was, becomes = (_CAST.sub("cast(", code) for code in (mutant.was, mutant.becomes))
    return not mutant.killed and was == becomes


def _is_excused(mutant: Mutant, excuses: Iterable[dict[str, str]]) -> bool:
    return any((mutant.was, mutant.becomes) == (excuse["was"], excuse["becomes"]) for excuse in excuses)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "rooms",
        nargs="*",
        metavar="room",
        choices=[*ROOMS, []],
        default=list(ROOMS),
        help=f"of {', '.join(ROOMS)}; default: all",
    )
    parser.add_argument("--at-a-time", type=int, default=2, help="copies of the tree for Lua's faults, default 2")
    parser.add_argument("--write", action="store_true", help="put the table into docs/mutation.md")
    options = parser.parse_args()
    options.rooms = options.rooms or list(ROOMS)  # argparse holds a default list against the choices as one
    return options


if __name__ == "__main__":
    sys.exit(main())
