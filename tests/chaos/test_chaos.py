"""The chaos harness: its plan, its proxy, its judgement, and a short run of it on real processes."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from chaos.child_process import ChildProcess
from chaos.collect import final_outcomes, find_log_errors, still_running
from chaos.facts import Facts, ObservedDisruption
from chaos.invariants import violations
from chaos.plan import DisruptionKind, plan
from chaos.proxy import Proxy
from chaos.run import simulator_speed
from chaos.stack import ProcessBusy, Stack
from spokes.simulator.app import Simulator
from spokes.simulator.config import SenderConfig, SimulatorConfig
from spokes.simulator.webhooks.retry_schedule import retry_delay_s
from tests.support.deployment import ROOT

GOOD = Facts(
    accepted=frozenset({"a", "b", "c"}),
    outcomes={"a": ("processed",), "b": ("dead",), "c": ("dead", "discarded")},
    allowed_dead=frozenset({"b", "c"}),
    note_times={"x": (1_000,), "y": (50_000, 60_000)},
    expected_notes=frozenset({"x"}),
    once_counts={"deal 1": 1},
    leftovers={"deliveries": 0},
    rate_limited_at_ms=(70_000,),
    disruptions=(
        ObservedDisruption(DisruptionKind.WORKER_KILLED, 55_000, 56_000),
        ObservedDisruption(DisruptionKind.LINK_STALLED, 60_000, 65_000),
        ObservedDisruption(DisruptionKind.WEB_KILLED, 100_000, 105_000),
    ),
)


@pytest.mark.parametrize("seconds", [10.0, 60.0, 600.0])
def test_hubspot_gives_no_event_up_while_trouble_lasts(seconds: float) -> None:
    rng, retries = Random(1), SenderConfig().max_retries
    waits = [sum(retry_delay_s(retry + 1, rng) for retry in range(retries)) for _ in range(1000)]
    assert min(waits) / simulator_speed(seconds, retries) > seconds + 15


@pytest.mark.parametrize(
    ("outcomes", "ends"),
    [
        (["retried", "processed"], ("processed",)),
        (["dead", "replayed", "retried", "dead"], ("dead",)),
        (["dead", "replayed", "processed"], ("processed",)),
        (["dead", "replayed"], None),
        (["dead", "dead", "replayed", "dead"], ("dead", "dead")),
        (["processed", "replayed", "processed"], ("processed", "processed")),
        (["dead", "discarded"], ("dead", "discarded")),
    ],
)
def test_dead_letter_that_was_taken_up_again_is_no_end(outcomes: list[str], ends: tuple[str, ...] | None) -> None:
    assert final_outcomes(("event", outcome) for outcome in outcomes).get("event") == ends


def test_good_run_violates_nothing() -> None:
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("events that HubSpot could not deliver", {"not_delivered": ("pending",)}),
        ("events that were answered 202 and are lost", {"accepted": frozenset({"a", "b", "c", "d"})}),
        ("events with more than one end", {"ends": {**GOOD.outcomes, "a": ("processed", "processed")}}),
        ("events with more than one end", {"ends": {**GOOD.outcomes, "b": ("discarded", "dead")}}),
        ("events that nobody was answered 202 for", {"ends": {**GOOD.outcomes, "d": ("processed",)}}),
        ("events that died, whose record is alive", {"may_die": frozenset({"c"})}),
        ("forged requests that were taken", {"forged_accepted": 1}),
        ("effects that did not happen", {"must_be_told": frozenset({"x", "z"})}),
        ("effects that were repeated, with no trouble in between", {"told": {"x": (1_000, 2_000)}}),
        ("effects that were repeated, with no trouble in between", {"told": {"x": (102_000, 103_000)}}),
        ("effects that must happen once, and did not", {"once": {"deal 1": 0}}),
        ("effects that must happen once, and did not", {"once": {"deal 1": 2}}),
        ("records that are not as they should be", {"wrong": ("1",)}),
        ("calls beyond HubSpot's limits", {"limited": (102_000,)}),
        ("left behind in Redis", {"left": {"deliveries": 1}}),
        ("the audit's chain", {"chain": False}),
        ("processes that ended otherwise than they should", {"surprises": ("web ended by itself",)}),
        ("lines of a log that should not be there", {"complaints": ("Traceback",)}),
        ("processes that are still running", {"still_running": ("valkey-server",)}),
    ],
)
def test_each_violation_is_seen_and_no_other(what: str, fault: dict[str, object]) -> None:
    must = frozenset({"x"}) if "told" in fault else GOOD.expected_notes
    found = violations(replace(GOOD, **{"must_be_told": must, **fault}))
    assert [violation.name for violation in found] == [what]


def test_violation_names_a_few_of_many() -> None:
    (found,) = violations(replace(GOOD, wrong=tuple(map(str, range(9)))))
    assert str(found) == "records that are not as they should be: 9: 0, 1, 2, 3, 4 ..."


def test_plan_follows_from_its_seed() -> None:
    assert plan(7, 60) == plan(7, 60) != plan(8, 60)


def test_plan_has_every_kind_before_any_comes_again() -> None:
    first = [trouble.kind for trouble in plan(7, 120)][: len(DisruptionKind)]
    assert set(first) == set(DisruptionKind)


def test_plan_of_some_kinds_has_no_others() -> None:
    kinds = [DisruptionKind.DISK_FULL, DisruptionKind.CRM_CUT]
    assert {trouble.kind for trouble in plan(7, 60, kinds)} == set(kinds)


def test_plan_begins_in_calm_and_ends_before_the_run() -> None:
    times = [trouble.starts_at_s for trouble in plan(3, 30)]
    assert times[0] > 2
    assert times[-1] < 29
    assert times == sorted(times)


@pytest.fixture
async def echo() -> AsyncIterator[Proxy]:
    """A proxy in front of a server that sends everything back."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(100):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Proxy(lambda: int(server.sockets[0].getsockname()[1])) as proxy:
        yield proxy


async def test_proxy_carries_bytes_and_ends(echo: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"there and back")
    writer.write_eof()
    assert await reader.read() == b"there and back"
    writer.close()


async def test_proxy_that_cuts_resets_the_connection(echo: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"there")
    assert await reader.read(5) == b"there"
    echo.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_proxy_ends_a_connection_whose_other_side_was_reset() -> None:
    def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server, Proxy(lambda: int(server.sockets[0].getsockname()[1])) as proxy, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_proxy_that_stalls_carries_nothing_until_it_flows(echo: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    echo.stall()
    writer.write(b"later")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.read(5)
    echo.resume()
    assert await reader.read(5) == b"later"
    writer.close()


async def test_proxy_to_nobody_ends_the_connection() -> None:
    async with Proxy(lambda: 1) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await reader.read() == b""
        writer.close()


async def test_part_that_does_not_heed_a_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.child_process._STOP_TIMEOUT_S", 0.2)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    part = ChildProcess("deaf", [sys.executable, "-c", script], {"DATA_DIR": str(tmp_path)}, tmp_path)
    await part.start()
    while not (tmp_path / "deaf.log").read_bytes():  # noqa: ASYNC110 - another process gets there
        await asyncio.sleep(0.02)
    assert len(list(still_running(tmp_path))) == 1
    assert await part.stop() == -9
    assert list(still_running(tmp_path)) == []


async def test_trouble_that_would_wait_long_for_its_part_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.stack._EXCLUSIVE_TIMEOUT_S", 0.05)
    async with Simulator(SimulatorConfig()) as sim:
        house = Stack(sim, tmp_path, 1, fsync="always")
        async with house.exclusive("web", "worker 1"):
            with pytest.raises(ProcessBusy):
                async with house.exclusive("valkey", "web"):
                    raise AssertionError
            async with house.exclusive("valkey"):
                pass


async def test_part_is_known_by_its_last_words(tmp_path: Path) -> None:
    part = ChildProcess("talker", [sys.executable, "-c", "print('first' + 500 * ' ' + 'last')"], {}, tmp_path)
    await part.start()
    async with asyncio.timeout(20):
        while part.exit_code is None:  # noqa: ASYNC110 - another process gets there
            await asyncio.sleep(0.02)
    assert (part.output_contains(b"last"), part.output_contains(b"first")) == (True, False)
    await part.stop()


async def test_part_hears_a_signal_once_it_has_a_handler_for_it(tmp_path: Path) -> None:
    script = "import signal, time; print(1, flush=True); time.sleep({}); signal.signal(signal.SIGTERM, print)"
    told = []
    for seconds, after in ((60, ""), (0, "; print(2, flush=True); time.sleep(60)")):
        part = ChildProcess(f"part {seconds}", [sys.executable, "-c", script.format(seconds) + after], {}, tmp_path)
        await part.start()
        while (tmp_path / f"part {seconds}.log").read_bytes().count(b"\n") < (2 if after else 1):  # noqa: ASYNC110 - another process gets there
            await asyncio.sleep(0.02)
        told.append((part.handles_signal(signal.SIGTERM), part.handles_signal(signal.SIGHUP)))
        await part.stop(signal.SIGKILL)
    assert told == [(False, False), (True, False)]
    assert not part.handles_signal(signal.SIGTERM)


def test_faults_and_values_in_logs_are_complaints(tmp_path: Path) -> None:
    lines = [b'{"event": "worker_ready"}', b"Traceback (most recent call last):", b'{"email": "person.1@example.com"}']
    (tmp_path / "worker 1.log").write_bytes(b"\n".join(lines))
    (tmp_path / "valkey.log").write_bytes(b"Traceback")
    assert len(list(find_log_errors(tmp_path))) == 2


@pytest.mark.parametrize(("after_s", "off_s"), [("0", -600), ("600", 0)])
def test_module_believes_another_time_once_its_clock_has_jumped(tmp_path: Path, after_s: str, off_s: int) -> None:
    (tmp_path / "tell_time.py").write_text("import sys, time; print(time.time(), time.time_ns() / 1e9, *sys.argv[1:])")
    command = [sys.executable, "-m", "chaos.clock_skew", "-600", after_s, "tell_time", "word"]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    told = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout.split()
    assert [round((float(moment) - time.time()) / 100) for moment in told[:2]] == [off_s / 100] * 2
    assert told[2] == "word"
