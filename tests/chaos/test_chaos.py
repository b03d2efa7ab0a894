"""Parts of the chaos harness: plan, proxy, child processes, log checks, invariants."""

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
from chaos.collect import EventEnds, final_outcomes, find_log_errors, still_running
from chaos.facts import Facts, ObservedDisruption
from chaos.invariants import violations
from chaos.plan import OAUTH, DisruptionKind, plan
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
def test_hubspot_retries_every_event_until_after_the_disruptions(seconds: float) -> None:
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
def test_replayed_dead_letter_is_not_a_final_outcome(outcomes: list[str], ends: tuple[str, ...] | None) -> None:
    assert final_outcomes(("event", outcome) for outcome in outcomes).get("event") == ends


def test_each_of_several_handlers_must_end_once() -> None:
    ends = EventEnds([("a", ()), ("b", ["first", "second"]), ("b", ["second"]), ("b", ())])
    assert (ends.of_event("a"), ends.of_event("b")) == (["a"], ["b first", "b second"])
    assert (ends.of_handler("a", "first"), ends.of_handler("b", "first")) == ("a", "b first")
    records = [("b", "first", "dead"), ("b", "first", "replayed"), ("b", "second", "dead"), ("b", "first", "processed")]
    outcomes = final_outcomes(
        (end, outcome) for event, handler, outcome in records for end in ends.of_record(event, handler, "k")
    )
    assert outcomes == {"b first": ("processed",), "b second": ("dead",)}


def test_handler_that_no_record_lists_must_end_too() -> None:
    ends = EventEnds([("a", ()), ("b", ())])
    ends.require(["b"], ["first", "second"])
    outcomes = final_outcomes((end, "processed") for end in ends.of_record("b", "first", "k"))
    facts = Facts(accepted=frozenset(ends.of_event("b")), outcomes=outcomes)
    assert [str(violation) for violation in violations(facts)] == [
        "events that were acknowledged with 202 and lost: 1: b second"
    ]


@pytest.mark.parametrize(
    ("event_key", "ends"), [("k.second", ["b second"]), ("k", ["b first", "b second"]), ("", ["b first", "b second"])]
)
def test_worker_of_another_version_ends_the_entry_that_it_ran(event_key: str, ends: list[str]) -> None:
    assert EventEnds([("b", ["first", "second"])]).of_record("b", "older", event_key) == ends


def test_good_run_violates_nothing() -> None:
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("events that HubSpot could not deliver", {"undelivered": ("pending",)}),
        ("events that were acknowledged with 202 and lost", {"accepted": frozenset({"a", "b", "c", "d"})}),
        ("events with more than one final outcome", {"outcomes": {**GOOD.outcomes, "a": ("processed", "processed")}}),
        ("events with more than one final outcome", {"outcomes": {**GOOD.outcomes, "b": ("discarded", "dead")}}),
        ("events with an outcome that were never acknowledged", {"outcomes": {**GOOD.outcomes, "d": ("processed",)}}),
        ("dead events whose record exists", {"allowed_dead": frozenset({"c"})}),
        ("forged requests that were accepted", {"forged_accepted": 1}),
        ("expected notes that are missing", {"expected_notes": frozenset({"x", "z"})}),
        ("notes that were repeated without a disruption in between", {"note_times": {"x": (1_000, 2_000)}}),
        ("notes that were repeated without a disruption in between", {"note_times": {"x": (102_000, 103_000)}}),
        ("effects of tools.once that did not happen exactly once", {"once_counts": {"deal 1": 0}}),
        ("effects of tools.once that did not happen exactly once", {"once_counts": {"deal 1": 2}}),
        ("records with a wrong value", {"wrong_records": ("1",)}),
        ("calls beyond HubSpot's limits", {"rate_limited_at_ms": (102_000,)}),
        ("entries left in Redis", {"leftovers": {"deliveries": 1}}),
        ("jobs of another application that did not run", {"other_jobs_lost": 1}),
        ("the audit chain", {"chain_is_intact": False}),
        ("portals that were marked without a reason", {"marked_portals": ("portal 1 is needs_reinstall",)}),
        ("calls with the token of another portal", {"foreign_calls": ("GET /crm",)}),
        ("secrets in logs, Redis, SQL or Sentry", {"leaked_secrets": ("access in web.log",)}),
        ("unexpected exits of processes", {"unexpected_exits": ("web ended by itself",)}),
        ("errors or personal data in logs", {"log_errors": ("Traceback",)}),
        ("processes that are still running", {"still_running": ("valkey-server",)}),
    ],
)
def test_each_violation_is_found_and_no_other(name: str, fault: dict[str, object]) -> None:
    expected = frozenset({"x"}) if "note_times" in fault else GOOD.expected_notes
    violated = violations(replace(GOOD, **{"expected_notes": expected, **fault}))
    assert [violation.name for violation in violated] == [name]


def test_violation_shows_the_first_five_cases() -> None:
    (violation,) = violations(replace(GOOD, wrong_records=tuple(map(str, range(9)))))
    assert str(violation) == "records with a wrong value: 9: 0, 1, 2, 3, 4 ..."


def test_plan_depends_on_its_seed() -> None:
    assert plan(7, 60) == plan(7, 60) != plan(8, 60)


@pytest.mark.parametrize("kinds", [OAUTH, frozenset(DisruptionKind) - OAUTH], ids=["OAuth", "others"])
def test_plan_has_every_kind_before_any_is_repeated(kinds: frozenset[DisruptionKind]) -> None:
    planned = [disruption.kind for disruption in plan(7, 120) if disruption.kind in kinds]
    assert set(planned[: len(kinds)]) == kinds


def test_disruptions_of_oauth_take_no_time_from_the_others() -> None:
    others = [kind for kind in DisruptionKind if kind not in OAUTH]
    assert [disruption for disruption in plan(7, 120) if disruption.kind not in OAUTH] == plan(7, 120, others)


def test_plan_of_some_kinds_has_no_others() -> None:
    kinds = [DisruptionKind.DISK_FULL, DisruptionKind.CRM_CUT]
    assert {disruption.kind for disruption in plan(7, 60, kinds)} == set(kinds)


def test_plan_starts_after_a_quiet_time_and_ends_before_the_run() -> None:
    times = [disruption.starts_at_s for disruption in plan(3, 30)]
    assert times[0] > 2
    assert times[-1] < 29
    assert times == sorted(times)


@pytest.fixture
async def echo() -> AsyncIterator[Proxy]:
    """A proxy in front of an echo server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(100):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Proxy(lambda: int(server.sockets[0].getsockname()[1])) as proxy:
        yield proxy


async def test_proxy_transfers_bytes_and_end_of_stream(echo: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"there and back")
    writer.write_eof()
    assert await reader.read() == b"there and back"
    writer.close()


async def test_cut_resets_the_connection(echo: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"there")
    assert await reader.read(5) == b"there"
    echo.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_proxy_closes_a_connection_whose_other_side_was_reset() -> None:
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


async def test_stalled_proxy_transfers_nothing_until_it_resumes(echo: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    echo.stall()
    writer.write(b"later")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.read(5)
    echo.resume()
    assert await reader.read(5) == b"later"
    writer.close()


async def test_proxy_without_a_target_closes_the_connection() -> None:
    async with Proxy(lambda: 1) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await reader.read() == b""
        writer.close()


async def test_process_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.child_process._STOP_TIMEOUT_S", 0.2)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    process = ChildProcess("ignoring", [sys.executable, "-c", script], {"DATA_DIR": str(tmp_path)}, tmp_path)
    await process.start()
    while not (tmp_path / "ignoring.log").read_bytes():  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.02)
    assert len(list(still_running(tmp_path))) == 1
    assert await process.stop() == -9
    assert list(still_running(tmp_path)) == []


async def test_disruption_that_would_wait_long_for_a_process_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.stack._EXCLUSIVE_TIMEOUT_S", 0.05)
    async with Simulator(SimulatorConfig()) as sim:
        stack = Stack(sim, tmp_path, 1, fsync="always")
        async with stack.exclusive("web", "worker 1"):
            with pytest.raises(ProcessBusy):
                async with stack.exclusive("valkey", "web"):
                    raise AssertionError
            async with stack.exclusive("valkey"):
                pass


async def test_output_contains_searches_the_end_of_the_log(tmp_path: Path) -> None:
    process = ChildProcess("talker", [sys.executable, "-c", "print('first' + 500 * ' ' + 'last')"], {}, tmp_path)
    await process.start()
    async with asyncio.timeout(20):
        while process.exit_code is None:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    assert (process.output_contains(b"last"), process.output_contains(b"first")) == (True, False)
    await process.stop()


async def test_signal_is_handled_once_the_process_has_a_handler(tmp_path: Path) -> None:
    script = "import signal, time; print(1, flush=True); time.sleep({}); signal.signal(signal.SIGTERM, print)"
    handled = []
    for seconds, after in ((60, ""), (0, "; print(2, flush=True); time.sleep(60)")):
        process = ChildProcess(
            f"process {seconds}", [sys.executable, "-c", script.format(seconds) + after], {}, tmp_path
        )
        await process.start()
        while (tmp_path / f"process {seconds}.log").read_bytes().count(b"\n") < (2 if after else 1):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
        handled.append((process.handles_signal(signal.SIGTERM), process.handles_signal(signal.SIGHUP)))
        await process.stop(signal.SIGKILL)
    assert handled == [(False, False), (True, False)]
    assert not process.handles_signal(signal.SIGTERM)


def test_errors_and_personal_data_in_logs_are_found(tmp_path: Path) -> None:
    lines = [b'{"event": "worker_ready"}', b"Traceback (most recent call last):", b'{"email": "person.1@example.com"}']
    (tmp_path / "worker 1.log").write_bytes(b"\n".join(lines))
    (tmp_path / "valkey.log").write_bytes(b"Traceback")
    assert len(list(find_log_errors(tmp_path))) == 2


def test_lines_about_bad_handlers_and_an_unreadable_job_are_expected(tmp_path: Path) -> None:
    lines = [
        b'{"job_id": "1-unreadable-job-0", "event": "unreadable_delivery"}',
        b'{"event": "Task exception was never retrieved", "error": "SystemExit", "error_at": "bad_handlers.py"}',
    ]
    (tmp_path / "worker 1.log").write_bytes(b"\n".join(lines))
    assert list(find_log_errors(tmp_path)) == []


@pytest.mark.slow
def test_server_that_is_not_a_program_is_refused_with_a_sentence() -> None:
    command = [sys.executable, "-m", "chaos", "--redis-server", "no-such-server"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "--redis-server: no-such-server was not found" in run.stdout


@pytest.mark.parametrize(("after_s", "off_s"), [("0", -600), ("600", 0)])
def test_module_has_a_shifted_clock_after_the_jump(tmp_path: Path, after_s: str, off_s: int) -> None:
    (tmp_path / "print_time.py").write_text("import sys, time; print(time.time(), time.time_ns() / 1e9, *sys.argv[1:])")
    command = [sys.executable, "-m", "chaos.clock_skew", "-600", after_s, "print_time", "argument"]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    output = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout.split()
    assert [round((float(moment) - time.time()) / 100) for moment in output[:2]] == [off_s / 100] * 2
    assert output[2] == "argument"
