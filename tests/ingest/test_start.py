"""Starting web process and worker: what prevents it is a sentence, with exit code 2."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest
from redis.asyncio import Redis

from tests.support.deployment import ROOT


def start(module: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a process until it ends."""
    env = {"PATH": os.environ["PATH"], "ENV_FILE": "", **environ}
    command = [sys.executable, "-m", module]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_port_of_another_program_is_one_sentence(environ: dict[str, str], processes: str) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = start("ingest", {**environ, "PORT": port, "WEB_CONCURRENCY": processes})
    assert done.returncode == 2
    assert done.stderr.startswith(f"HOST and PORT: nothing can listen on port {port}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["ingest", "workers"])
async def test_data_dir_that_cannot_be_used_is_one_sentence(environ: dict[str, str], redis: Redis, module: str) -> None:
    await redis.flushall()
    done = await asyncio.to_thread(
        start, module, {**environ, "AUDIT_KEY": "", "DATA_DIR": "/dev/null/data", "PORT": "0"}
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "Set DATA_DIR to a folder" in done.stderr


@pytest.mark.parametrize("module", ["ingest", "workers", "spokes.simulator"])
def test_file_of_settings_that_cannot_be_read_is_one_sentence(environ: dict[str, str], module: str) -> None:
    done = start(module, {**environ, "ENV_FILE": "/nowhere/.env"})
    assert (done.returncode, done.stderr) == (
        2,
        "ENV_FILE: '/nowhere/.env' cannot be read (No such file or directory).\n",
    )
