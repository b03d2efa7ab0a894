"""Restart web process and workers when a file of the handlers changes, for `spokes up --reload`."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final, NamedTuple

from watchfiles import Change, PythonFilter, awatch

from spokes.console.local.processes import Processes
from spokes.core.process.child_command import module_command, module_environment

_RELOADED: Final = ("web", "worker ")  # the processes that load handlers; names of workers end with a number
_PYTHON_FILES: Final = PythonFilter()


class WatchedPlace(NamedTuple):
    """A folder whose changes count; `file`, if not empty, is the only file in it that does."""

    folder: Path
    file: str = ""


def watched_place(package: str, folder: Path) -> WatchedPlace:
    """Return where the files of a package of handlers lie: its outermost package, or `folder` while there is none."""
    spec = PathFinder.find_spec(package.partition(".")[0], [str(folder)])
    if spec is None:
        return WatchedPlace(folder)
    if spec.submodule_search_locations:
        return WatchedPlace(Path(next(iter(spec.submodule_search_locations))))
    return WatchedPlace(folder, Path(spec.origin or "").name)


async def run_with_reload(package: str, processes: Processes, env: Mapping[str, str]) -> str:
    """Restart the processes that load handlers after each change; return a sentence about one that ends by itself."""
    changes = _changes(watched_place(package, Path.cwd()))
    while True:
        ended = asyncio.create_task(processes.wait_for_exit())
        changed = asyncio.ensure_future(anext(changes))
        try:
            await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            names = ", ".join(sorted(changed.result()))
        finally:
            for task in (ended, changed):
                task.cancel()
            await asyncio.gather(ended, changed, return_exceptions=True)
        if await _handlers_are_valid(env):
            print(f"{names} changed: restarting web process and workers.", flush=True)
            await processes.restart(_RELOADED)
        else:
            print(f"{names} changed, with the fault above: the handlers of before keep running.", flush=True)


async def _changes(place: WatchedPlace) -> AsyncIterator[set[str]]:
    def is_watched(change: Change, path: str) -> bool:
        return _PYTHON_FILES(change, path) and (not place.file or Path(path).name == place.file)

    async for changes in awatch(place.folder, watch_filter=is_watched, recursive=not place.file):
        yield _file_names(path for _, path in changes)


def _file_names(paths: Iterable[str]) -> set[str]:
    return {os.path.relpath(path) for path in paths}


async def _handlers_are_valid(env: Mapping[str, str]) -> bool:
    """Load the handlers in a process of its own, which prints the faults: this one has loaded them as they were."""
    process = await asyncio.create_subprocess_exec(
        *module_command("spokes", "handlers", "--json"),
        env=module_environment({**os.environ, **env}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    return await process.wait() == 0
