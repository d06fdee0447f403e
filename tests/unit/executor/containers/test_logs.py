"""Log files: never through a link, never beyond their limit, never silent about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from executor.containers.base import ContainerSpec, Exit
from executor.containers.logs import CappedLog, not_started, open_capped, open_log

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes kept free for the last line.
NOTE = 128


def capped(path: Path, limit: int) -> CappedLog:
    return CappedLog(open_log(path, path.parent), limit)


@pytest.mark.parametrize(
    ("sizes", "kept"), [([10], 10), ([100, 100], 200), ([150, 150], 200), ([201], 200), ([], 0)]
)
def test_a_log_stops_at_its_limit_and_says_what_it_dropped(
    tmp_path: Path, sizes: list[int], kept: int
) -> None:
    path = tmp_path / "log"
    log = capped(path, 200 + NOTE)
    for size in sizes:
        log.write(b"x" * size)
    log.close()
    log.close()
    data = path.read_bytes()
    assert data[:kept] == b"x" * kept
    dropped = sum(sizes) - kept
    assert data[kept:].decode() == (
        f"\n[simherd: the log is full, {dropped} bytes were dropped]\n" if dropped else ""
    )


def test_the_limit_covers_what_earlier_commands_wrote(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"e" * 190)
    log = capped(path, 200 + NOTE)
    log.write(b"x" * 20)
    log.close()
    assert path.read_bytes().startswith(b"e" * 190 + b"x" * 10 + b"\n[simherd")


@pytest.mark.parametrize(("written", "left"), [(50, 50), (200, 200), (500, 200)])
def test_output_beyond_the_limit_is_cut(tmp_path: Path, written: int, left: int) -> None:
    path = tmp_path / "log"
    log = capped(path, 200 + NOTE)
    os.write(log.fileno(), b"x" * written)
    log.trim()
    assert path.stat().st_size == left
    log.close()


def test_a_link_in_a_logs_place_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "log").symlink_to("target")
    capped(tmp_path / "log", 1000).close()
    assert (tmp_path / "target").read_text() == "precious"
    assert not (tmp_path / "log").is_symlink()


def test_a_fifo_in_a_logs_place_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    capped(tmp_path / "log", 1000).close()
    assert (tmp_path / "log").is_file()


def test_a_folder_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "work/logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectoryError):
        open_log(tmp_path / "work/logs/out", tmp_path / "work")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("inside", ["out", "a/out", "a/b/out"])
def test_a_log_may_lie_below_the_work_folder(tmp_path: Path, inside: str) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    os.close(open_log(tmp_path / inside, tmp_path))
    assert (tmp_path / inside).is_file()


def test_the_reason_of_a_command_that_did_not_start_is_in_its_stderr(tmp_path: Path) -> None:
    spec = ContainerSpec("n", "i", tmp_path, ("x",), tmp_path / "out", tmp_path / "err")
    running = not_started(spec, Exit(127, message="It is missing."), open_capped(spec.stderr, spec))
    assert (tmp_path / "err").read_text() == "simherd: It is missing.\n"
    assert running.name == "n"
    assert running.wait(None) == running.stop(0) == Exit(127, message="It is missing.")
    assert (running.processes(), running.alarms(), running.warn("SIGUSR1")) == ([], [], 0)
    running.signal("SIGTERM")
    running.remove()
