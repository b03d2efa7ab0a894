"""Restart web process and workers when a file of the handlers changes, for `spokes up --reload`.

The simulated app gets the scopes and subscriptions that the changed handlers need, as its owner would give them to it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import ClientError, ClientSession
from watchfiles import Change, PythonFilter, awatch

from spokes.console.local.handler_needs import HandlerNeeds, parse_needs
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


async def run_with_reload(
    package: str, processes: Processes, env: Mapping[str, str], *, simulator_url: str = ""
) -> str:
    """Restart the processes that load handlers after each change; return a sentence about one that ends by itself.

    `simulator_url` is empty if the simulator does not play HubSpot.
    """
    needs: HandlerNeeds | None = None
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
        if (changed_needs := await _needs_of_valid_handlers(env)) is not None:
            print(f"{names} changed: restarting web process and workers.", flush=True)
            if simulator_url and changed_needs != needs:
                await _give_to_simulated_app(simulator_url, changed_needs)
                needs = changed_needs
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


async def _needs_of_valid_handlers(env: Mapping[str, str]) -> HandlerNeeds | None:
    """Load the handlers in a process of its own, which prints the faults: this one has loaded them as they were.

    Return what they need; None if they have faults.
    """
    process = await asyncio.create_subprocess_exec(
        *module_command("spokes", "handlers", "--json"),
        env=module_environment({**os.environ, **env}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return parse_needs(output.decode()) if process.returncode == 0 else None


async def _give_to_simulated_app(url: str, needs: HandlerNeeds) -> None:
    body = {"scopes": list(needs.scopes), "events": list(needs.events)}
    try:
        async with ClientSession() as client, client.put(f"{url}/_sim/app", json=body) as response:
            is_done = response.ok
    except (ClientError, OSError, TimeoutError):
        is_done = False
    if is_done:
        print("The simulated HubSpot app has the scopes and subscriptions that the handlers need now.", flush=True)
    else:
        print("The simulator does not answer: its app keeps the scopes and subscriptions of before.", flush=True)
