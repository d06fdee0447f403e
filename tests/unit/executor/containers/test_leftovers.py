"""Processes that a command left behind are found by group, session and marker, and no others."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from executor.containers.leftovers import MARKER, kill_leftovers, members, start_ticks
from executor.containers.signals import warn
from executor.containers.stdin_file import memory_file

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Says that it is ready, then waits for its input's end.
WAITS = "import sys; print('ready', flush=True); sys.stdin.read()"
HANDLES = (
    f"import signal; signal.signal(signal.SIGUSR1, lambda *_: print('warned', flush=True)); {WAITS}"
)


@contextmanager
def process(
    name: str = "", code: str = WAITS, **options: bool
) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, **({MARKER: name} if name else {})}
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
        **options,  # type: ignore[call-overload]
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def name() -> str:
    return f"test-{secrets.token_hex(8)}"


def test_a_marked_process_is_found_and_killed_whatever_its_group(name: str) -> None:
    with process(name, start_new_session=True) as child, process() as other:
        assert members(name, 2**22 + 1) == [child.pid]
        # A killed process that nobody reaps yet is a zombie, and counts as gone.
        assert kill_leftovers(name, None, 30)
        assert child.wait(30) == -signal.SIGKILL
        assert other.poll() is None


def test_an_unmarked_process_is_found_by_its_leaders_group(name: str) -> None:
    with process(start_new_session=True) as leader:
        assert members(name, leader.pid) == [leader.pid]
        assert kill_leftovers(name, leader.pid, 30)
        assert leader.wait(30) == -signal.SIGKILL


@pytest.mark.parametrize("only_newer", [True, False])
def test_without_leftovers_there_is_nothing_to_wait_for(name: str, only_newer: bool) -> None:
    assert kill_leftovers(name, None, 0, only_newer=only_newer)
    with process() as other:
        assert kill_leftovers(name, None, 0)
        assert other.poll() is None


def test_a_process_is_known_by_when_it_started() -> None:
    mine = start_ticks(os.getpid())
    assert mine is not None
    assert mine == start_ticks(os.getpid())
    assert start_ticks(2**22 + 1) is None


def test_a_warning_reaches_processes_that_handle_it_and_no_others() -> None:
    with process(code=HANDLES) as handles, process() as ignores:
        assert warn([handles.pid, ignores.pid, 2**22 + 1], "SIGUSR1") == 1
        assert handles.stdout is not None
        assert handles.stdout.readline() == b"warned\n"
        assert ignores.poll() is None


@pytest.mark.parametrize("data", [b"", b"x", b"y" * 1_000_000])
def test_bytes_are_a_file_to_read(data: bytes) -> None:
    with memory_file(data) as descriptor:
        done = subprocess.run(["cat"], stdin=descriptor, capture_output=True, check=True)
    assert done.stdout == data
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
