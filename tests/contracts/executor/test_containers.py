"""One behaviour, every container backend."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from executor.containers.base import ContainerBackend, Exit
from executor.containers.docker import DockerBackend
from executor.containers.leftovers import MARKER
from executor.containers.process import ProcessBackend
from tests.contracts.executor.bench import DEADLINE_S, IMAGE, Bench, marked, wait_until
from tests.contracts.executor.fake_programs import PROGRAMS
from tests.support.fakes.containers import FakeBackend, FakeEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


REAL = ["process", pytest.param("docker", marks=pytest.mark.docker)]
#: For what only real processes do.
real_processes = pytest.mark.parametrize("bench", REAL, indirect=True)


@pytest.fixture(params=["fake", *REAL])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    engine = FakeEngine(dict(PROGRAMS), pulled=[IMAGE])

    def make() -> ContainerBackend:
        if request.param == "docker":
            return DockerBackend()
        if request.param == "fake":
            return FakeBackend(engine)
        return ProcessBackend(tmp_path / "state")

    bench = Bench(make, tmp_path)
    threads = set(threading.enumerate())
    yield bench
    bench.backend.cleanup(bench.label)
    bench.backend.close()
    assert set(threading.enumerate()) <= threads, "a thread was left behind"


def test_nothing_stays_open(bench: Bench) -> None:
    bench.backend.close()
    # What earlier tests have left is not closed meanwhile.
    gc.collect()
    before = os.listdir("/proc/self/fd")
    bench.backend = bench.make()
    for argv in (("true",), ("missing",), ("sh", "-c", "kill -9 $$"), ()):
        bench.run(bench.spec(*argv))
    bench.backend.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_commands_own(bench: Bench, code: int) -> None:
    assert bench.sh(f"exit {code}") == Exit(code)


def test_death_by_signal_is_told(bench: Bench) -> None:
    exit_ = bench.sh("kill -SEGV $$")
    assert (exit_.code, exit_.signal, exit_.oom) == (139, signal.SIGSEGV, False)


def test_stdout_and_stderr_go_apart_and_append(bench: Bench) -> None:
    bench.sh("echo one; echo uno >&2")
    bench.sh("echo two; echo due >&2")
    assert bench.out.read_text() == "one\ntwo\n"
    assert bench.err.read_text() == "uno\ndue\n"


@real_processes
def test_output_is_complete_and_in_order(bench: Bench) -> None:
    bench.sh("seq 200000")
    assert bench.out.read_text() == "".join(f"{n}\n" for n in range(1, 200001))


@pytest.mark.parametrize("size", [1, 5_000_000])
def test_stdin_is_fed_and_closed(bench: Bench, size: int) -> None:
    data = os.urandom(size)
    assert bench.run(replace(bench.spec("cat"), stdin=data)).code == 0
    assert bench.out.read_bytes() == data


def test_without_stdin_reading_meets_its_end(bench: Bench) -> None:
    assert bench.run(bench.spec("cat")).code == 0
    assert bench.out.read_bytes() == b""


def test_stdin_nobody_reads_does_no_harm(bench: Bench) -> None:
    assert bench.run(replace(bench.spec("true"), stdin=b"x" * 5_000_000)).code == 0


def test_the_command_starts_in_its_folder(bench: Bench) -> None:
    (bench.work / "case").mkdir()
    assert bench.run(replace(bench.spec("sh", "-c", "pwd; touch made"), cwd="case")).code == 0
    assert bench.out.read_text().endswith("/case\n")
    assert (bench.work / "case" / "made").exists()


@pytest.mark.parametrize("cwd", ["..", "/etc", "missing", "out"])
def test_a_folder_outside_or_missing_is_refused(bench: Bench, cwd: str) -> None:
    (bench.work / "out").symlink_to("/etc")
    exit_ = bench.run(replace(bench.spec("touch", "made"), cwd=cwd))
    assert exit_.code == 126
    assert cwd in exit_.message
    assert cwd in bench.err.read_text()


def test_the_environment_is_given_and_nothing_of_the_agents(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("SIMHERD_TOKEN", "canary")
    assert bench.run(replace(bench.spec("env"), env={"CASE": "a b\n$c"})).code == 0
    text = bench.out.read_text()
    assert "CASE=a b\n$c\n" in text
    assert "HOME=" in text
    assert "canary" not in text


def test_arguments_never_meet_a_shell(bench: Bench) -> None:
    odd = ("$(id)", "; rm -rf /", "a\nb", "-n", "*", "é", "")
    assert bench.run(bench.spec("printf", "[%s]", *odd)).code == 0
    assert bench.out.read_text() == "".join(f"[{text}]" for text in odd)


@pytest.mark.parametrize("argv", [("no-such-program",), ("./missing",), ("",), ()])
def test_a_command_that_is_not_there(bench: Bench, argv: tuple[str, ...]) -> None:
    exit_ = bench.run(bench.spec(*argv))
    assert exit_.code == 127
    assert exit_.message
    assert bench.err.read_text()


def test_a_command_that_is_not_executable(bench: Bench) -> None:
    (bench.work / "data").write_text("no program")
    (bench.work / "data").chmod(0o644)
    exit_ = bench.run(bench.spec("./data"))
    assert exit_.code == 126
    assert exit_.message


def test_a_log_stops_at_its_limit_and_the_command_does_not(bench: Bench) -> None:
    spec = bench.spec("sh", "-c", "head -c 3000000 /dev/zero; echo end >&2; exit 4")
    for _ in range(2):  # the limit covers both commands
        assert bench.run(replace(spec, log_limit_bytes=100_000, name=bench.spec().name)).code == 4
    assert bench.out.stat().st_size <= 100_200
    assert b"bytes were dropped" in bench.out.read_bytes()
    assert bench.err.read_text() == "end\nend\n"


def test_a_log_is_never_written_through_a_link(bench: Bench) -> None:
    precious = bench.work.parent / "precious"
    precious.write_text("mine")
    log = bench.work / "stdout.txt"
    log.symlink_to(precious)
    assert bench.run(replace(bench.spec("echo", "theirs"), stdout=log)).code == 0
    assert precious.read_text() == "mine"
    assert log.read_text() == "theirs\n"


def test_wait_comes_back_when_its_time_is_up(bench: Bench) -> None:
    running = bench.backend.start(bench.spec("sleep", "1000"))
    assert running.wait(0.05) is None
    running.remove()
    assert running.wait(None) == Exit(137, signal.SIGKILL, message=running.wait(0).message)  # type: ignore[union-attr]


def test_stop_gives_time_to_finish(bench: Bench) -> None:
    script = "trap 'echo saved; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    running = bench.backend.start(bench.spec("sh", "-c", script))
    wait_until(lambda: "ready" in bench.out.read_text(), "the trap")
    exit_ = running.stop(DEADLINE_S)
    assert exit_.code == 7
    assert running.stop(0) == exit_
    assert bench.out.read_text() == "ready\nsaved\n"
    running.remove()
    running.remove()


@real_processes
def test_the_stop_signal_reaches_the_whole_group(bench: Bench) -> None:
    child = "trap 'echo child saved; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    parent = 'trap "wait; exit 6" TERM; sh -c "$0" & wait'
    running = bench.backend.start(bench.spec("sh", "-c", parent, child))
    wait_until(lambda: "ready" in bench.out.read_text(), "the trap")
    assert running.stop(DEADLINE_S).code == 6
    assert bench.out.read_text() == "ready\nchild saved\n"
    running.remove()


def test_stop_kills_what_ignores_the_signal(bench: Bench) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.01; done"
    running = bench.backend.start(bench.spec("sh", "-c", script))
    wait_until(lambda: "ready" in bench.out.read_text(), "the trap")
    assert running.stop(0.1).code == 137
    running.remove()


def test_a_second_stop_shortens_the_first(bench: Bench) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.01; done"
    running = bench.backend.start(bench.spec("sh", "-c", script))
    wait_until(lambda: "ready" in bench.out.read_text(), "the trap")
    patient = threading.Thread(target=running.stop, args=(1000,))
    patient.start()
    assert running.stop(0).code == 137
    patient.join(DEADLINE_S)
    assert not patient.is_alive()
    running.remove()


def test_a_signal_reaches_the_command(bench: Bench) -> None:
    script = "trap 'echo saved; exit 0' USR1; echo ready; while :; do sleep 0.01; done"
    running = bench.backend.start(bench.spec("sh", "-c", script))
    wait_until(lambda: "ready" in bench.out.read_text(), "the trap")
    running.signal("SIGUSR1")
    assert running.wait(DEADLINE_S) == Exit(0)
    running.signal("SIGUSR1")
    running.remove()


def test_a_warning_reaches_only_what_handles_it(bench: Bench) -> None:
    child = "trap 'echo child saved' USR1; echo ready; while :; do sleep 0.01; done"
    # Neither the parent shell nor the sleeps know the signal: it would end them.
    running = bench.backend.start(bench.spec("sh", "-c", 'sh -c "$0"; exit 9', child))
    wait_until(lambda: "ready" in bench.out.read_text(), "the trap")
    # A sleep that has just been forked is still a copy of the shell, and handles it as well.
    wait_until(lambda: running.warn("SIGUSR1") == 1, "one that handles it")
    wait_until(lambda: "child saved" in bench.out.read_text(), "the warning")
    assert running.wait(0) is None
    assert running.warn("SIGUSR2") == 0
    running.stop(0)
    assert running.warn("SIGUSR1") == 0
    running.remove()


DAEMON = """sh -c 'trap "" TERM HUP; touch up; sleep 1000'"""


@real_processes
@pytest.mark.parametrize("daemon", [f"{DAEMON} &", f"setsid {DAEMON} &", f"(setsid {DAEMON} &) &"])
def test_nothing_outlives_its_command(bench: Bench, daemon: str) -> None:
    script = f"{daemon}\n until [ -e up ]; do :; done; exit 5"
    spec = bench.spec("sh", "-c", script)
    spec = replace(spec, env={MARKER: spec.name})
    assert bench.run(spec).code == 5
    assert marked(spec.name) == []


def test_a_daemon_without_our_marker_is_found_by_its_group(tmp_path: Path) -> None:
    bench = Bench(lambda: ProcessBackend(tmp_path / "state"), tmp_path)
    other = f"test-{uuid.uuid4().hex}"
    script = f"env -i {MARKER}={other} {DAEMON} & until [ -e up ]; do :; done"
    assert bench.sh(script).code == 0
    assert marked(other) == []


@real_processes
def test_a_later_agent_finds_the_processes_that_an_earlier_one_left(bench: Bench) -> None:
    spec = bench.spec("sh", "-c", "setsid sleep 1000 & echo ready; sleep 1000")
    spec = replace(spec, env={MARKER: spec.name}, labels={**bench.label, "task": "t1"})
    running = bench.backend.start(spec)
    wait_until(lambda: len(marked(spec.name)) >= 3, "the processes")
    later = bench.make()
    assert later.cleanup({**bench.label, "task": "t2"}) == 0
    assert later.cleanup(bench.label) == 1
    wait_until(lambda: not marked(spec.name), "their end")
    assert later.cleanup(bench.label) == 0
    later.close()
    exit_ = running.wait(DEADLINE_S)
    assert exit_ is not None
    assert exit_.code == 137
    running.remove()


def test_a_later_agent_removes_what_an_earlier_one_left(bench: Bench) -> None:
    spec = replace(bench.spec("sleep", "1000"), labels={**bench.label, "task": "t1"})
    running = bench.backend.start(spec)
    later = bench.make()
    assert later.cleanup({**bench.label, "task": "t2"}) == 0
    assert later.cleanup(bench.label, lambda labels: labels["task"] == "t1") == 0
    assert later.cleanup(bench.label) == 1
    assert later.cleanup(bench.label) == 0
    exit_ = running.wait(DEADLINE_S)
    assert exit_ is not None
    assert exit_.code == 137
    running.remove()
    assert later.adopt(spec) is None
    later.close()


def test_what_was_never_started_is_not_adopted(bench: Bench) -> None:
    assert bench.make().adopt(bench.spec("true")) is None


def test_a_removed_command_is_not_adopted(bench: Bench) -> None:
    spec = bench.spec("true")
    bench.run(spec)
    assert bench.make().adopt(spec) is None


@pytest.mark.parametrize(
    "bench", ["fake", pytest.param("docker", marks=pytest.mark.docker)], indirect=True
)
def test_a_later_agent_goes_on_with_a_command(bench: Bench) -> None:
    ended, hanging = bench.spec("sh", "-c", "exit 3"), bench.spec("sleep", "1000")
    for spec in (ended, hanging):
        bench.backend.start(spec)
    later = bench.make()
    first, second = later.adopt(ended), later.adopt(hanging)
    assert first is not None
    assert second is not None
    assert first.wait(DEADLINE_S) == Exit(3)
    assert second.wait(0) is None
    for running in (first, second):
        running.remove()
    later.close()


def test_preparing_an_image_that_is_here(bench: Bench) -> None:
    assert bench.backend.prepare(IMAGE).source in ("local", "host")


def test_a_number_given_away_since_is_not_killed(tmp_path: Path) -> None:
    backend = ProcessBackend(tmp_path / "state")
    lines = ({"name": "old", "labels": {"task": "1"}}, {"pid": os.getpid(), "ticks": 1})
    (tmp_path / "state" / "old.json").write_text("\n".join(map(json.dumps, lines)))
    assert backend.cleanup({"task": "1"}) == 1
