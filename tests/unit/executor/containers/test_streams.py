"""The engine's stream, cut anywhere, becomes two logs; input goes the other way."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from executor.containers.logs import CappedLog, open_log
from executor.containers.streams import Frames, pump

if TYPE_CHECKING:
    from pathlib import Path


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


@pytest.fixture
def logs(tmp_path: Path) -> tuple[CappedLog, CappedLog]:
    out, err = (CappedLog(open_log(tmp_path / n, tmp_path), 10**9) for n in ("out", "err"))
    return out, err


STREAM = (
    frame(1, b"first\n")
    + frame(2, b"wrong\n")
    + frame(1, b"")
    + frame(1, b"second\n")
    + frame(2, b"!")
)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 8, 9, 1000])
def test_frames_are_found_wherever_the_stream_is_cut(
    logs: tuple[CappedLog, CappedLog], tmp_path: Path, step: int
) -> None:
    frames = Frames(*logs)
    for start in range(0, len(STREAM), step):
        frames.feed(STREAM[start : start + step])
    assert (tmp_path / "out").read_bytes() == b"first\nsecond\n"
    assert (tmp_path / "err").read_bytes() == b"wrong\n!"


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_input_is_fed_and_closed_while_output_comes(
    logs: tuple[CappedLog, CappedLog], tmp_path: Path, size: int
) -> None:
    ours, theirs = socket.socketpair()
    received = bytearray()

    def engine() -> None:
        with theirs:
            # A command that fills its output before it reads its input.
            theirs.sendall(frame(1, b"o" * 2_000_000))
            while size and (data := theirs.recv(65536)):
                received.extend(data)
            theirs.sendall(frame(2, b"end"))

    thread = threading.Thread(target=engine)
    thread.start()
    with ours:
        pump(ours, b"i" * size, *logs)
    thread.join(30)
    assert bytes(received) == b"i" * size
    assert (tmp_path / "out").stat().st_size == 2_000_000
    assert (tmp_path / "err").read_bytes() == b"end"


def test_a_command_that_does_not_read_its_input_does_no_harm(
    logs: tuple[CappedLog, CappedLog], tmp_path: Path
) -> None:
    ours, theirs = socket.socketpair()
    theirs.shutdown(socket.SHUT_RD)
    theirs.sendall(frame(1, b"done"))
    theirs.shutdown(socket.SHUT_WR)
    with ours, theirs:
        pump(ours, b"i" * 1_000_000, *logs)
    assert (tmp_path / "out").read_bytes() == b"done"
