"""The table of a command's processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from executor.files.top import top


def no_pause(_seconds: float) -> None:
    """The processes are looked at twice at once."""


def test_each_thread_of_a_process_is_a_row() -> None:
    text = top([os.getpid()], no_pause)
    head, memory, _, columns, *rows = text.splitlines()
    assert head.startswith("top: 1 processes, ")
    assert "MiB" in memory
    assert columns.split()[:3] == ["PID", "TID", "S"]
    assert rows
    assert all(row.split()[0] == str(os.getpid()) for row in rows)


@pytest.mark.parametrize("pids", [[], [2**22 + 1]])
def test_processes_that_are_gone_are_left_out(pids: list[int]) -> None:
    lines = top(pids, no_pause).splitlines()
    assert f"top: {len(pids)} processes, 0 threads" in lines[0]
    assert len(lines) == 4


def test_a_command_line_controls_no_terminal_and_is_cut() -> None:
    argv = [sys.executable, "-c", "input()", "\x1b[31m", "x" * 500]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        try:
            text = top([process.pid], no_pause)
        finally:
            process.kill()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 200


def test_top_lasts_for_the_requested_time() -> None:
    pauses: list[float] = []
    top([os.getpid()], pauses.append, 0.7)
    assert pauses == [0.7]
