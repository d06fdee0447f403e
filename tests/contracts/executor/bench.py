"""Running single commands in a container backend."""

from __future__ import annotations

import os
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from executor.containers.base import ContainerBackend, ContainerSpec, Exit
from executor.containers.leftovers import MARKER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = "simherd/debian:bookworm"
DEADLINE_S = 30.0


def wait_until(check: Callable[[], object], what: str) -> None:
    """Poll until `check` holds; fails after DEADLINE_S, saying what was waited for."""
    end = time.monotonic() + DEADLINE_S
    tick = threading.Event()
    while not check():
        if time.monotonic() > end:
            pytest.fail(f"waited {DEADLINE_S} s in vain for {what}")
        tick.wait(0.005)


class Bench:
    """A backend, a work folder, and everything that was started there."""

    def __init__(self, make: Callable[[], ContainerBackend], folder: Path) -> None:
        self.make = make
        self.backend = make()
        self.work = folder / "work"
        self.work.mkdir()
        self.label = {"simherd-test": uuid.uuid4().hex}
        self.out = folder / "stdout.txt"
        self.err = folder / "stderr.txt"

    def spec(self, *argv: str) -> ContainerSpec:
        return ContainerSpec(
            name=f"test-{uuid.uuid4().hex[:12]}",
            image=IMAGE,
            work_dir=self.work,
            argv=argv,
            stdout=self.out,
            stderr=self.err,
            labels=self.label,
        )

    def run(self, spec: ContainerSpec) -> Exit:
        running = self.backend.start(spec)
        try:
            exit_ = running.wait(DEADLINE_S)
            assert exit_ is not None
            return exit_
        finally:
            running.remove()

    def sh(self, script: str) -> Exit:
        return self.run(self.spec("sh", "-c", script))


def marked(name: str) -> list[int]:
    """The living processes of this machine that carry a spec's marker."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read()
        except OSError:
            continue
        if f"{MARKER}={name}".encode() in environment:
            found.append(int(pid))
    return found
