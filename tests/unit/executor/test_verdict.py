"""The cause of an end, over exits, refusals of the kernel and stops."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from executor.attempt.context import RunState
from executor.attempt.errors import StageFailed
from executor.attempt.peak_usage import PeakUsage
from executor.attempt.recovery import Progress
from executor.attempt.stop import StopSwitch
from executor.attempt.verdict import decide, disk_detail, exit_cause
from executor.containers.base import Exit
from simherd.contract.cause import Cause
from tests.support.fakes.attempt import spec_of

if TYPE_CHECKING:
    from pathlib import Path


def attempt_of(folder: Path, *, is_full: bool = False, peaks: PeakUsage | None = None) -> Any:
    """As much of an attempt as the verdict reads."""
    switch = StopSwitch()
    (folder / "work").mkdir()
    return SimpleNamespace(
        state=RunState(spec_of(), switch.pause, peaks=peaks or PeakUsage()),
        switch=switch,
        volume=SimpleNamespace(is_full=lambda: is_full, limit=4096, used=lambda: 4096),
        progress=Progress(),
        commands=spec_of().commands,
        config=SimpleNamespace(policy=SimpleNamespace(pids=10)),
        memory_limit=1024,
        folder=folder,
        work=folder / "work",
    )


def by_hand(ended: Exit, is_full: bool, oom_kills: int, pids_refused: int) -> Cause:
    """The rule, as the documentation has it."""
    if is_full:
        return Cause.DISK_LIMIT
    if ended.code == 0:
        return Cause.COMPLETED
    if ended.oom or oom_kills:
        return Cause.OUT_OF_MEMORY
    return Cause.PIDS_LIMIT if pids_refused else Cause.NONZERO_EXIT


EXITS = [Exit(0), Exit(0, oom=True), Exit(1), Exit(137, 9), Exit(137, 9, oom=True), Exit(255)]


@pytest.mark.parametrize(
    ("ended", "is_full", "oom_kills", "pids_refused"),
    list(itertools.product(EXITS, (False, True), (0, 1), (0, 1))),
)
def test_what_the_kernel_refused_counts_before_the_exit_code(
    tmp_path: Path, ended: Exit, is_full: bool, oom_kills: int, pids_refused: int
) -> None:
    peaks = PeakUsage(oom_kills=oom_kills, pids_refused=pids_refused)
    attempt = attempt_of(tmp_path, is_full=is_full, peaks=peaks)
    cause, detail = exit_cause(attempt, ended)
    assert cause is by_hand(ended, is_full, oom_kills, pids_refused)
    assert (detail is None) is (cause is Cause.COMPLETED)


@pytest.mark.parametrize("stopped", Cause)
@pytest.mark.parametrize("ended", [None, Exit(0), Exit(143, 15)])
def test_a_stop_counts_before_the_exit(tmp_path: Path, stopped: Cause, ended: Exit | None) -> None:
    attempt = attempt_of(tmp_path)
    attempt.state.last_exit = ended
    attempt.switch.trip(stopped)
    decide(attempt)
    assert attempt.state.cause is stopped
    assert (attempt.state.detail is not None) is (stopped is Cause.DISK_LIMIT)
    has_code = not (attempt.switch.without_outputs or stopped is Cause.SPOT_RECLAIMED)
    assert attempt.state.exit_code == (ended.code if ended and has_code else None)


@pytest.mark.parametrize("ended", EXITS)
def test_without_a_stop_the_exit_decides(tmp_path: Path, ended: Exit) -> None:
    attempt = attempt_of(tmp_path)
    attempt.state.last_exit = ended
    decide(attempt)
    assert attempt.state.cause is by_hand(ended, is_full=False, oom_kills=0, pids_refused=0)
    assert attempt.state.exit_code == ended.code


@pytest.mark.parametrize(
    ("progress", "ended", "is_known"),
    [
        (Progress(computed=True, commands=0), None, False),
        (Progress(computed=True, commands=0), Exit(0), False),
        (Progress(computed=True, commands=0), Exit(1), True),
        (Progress(computed=True, commands=1), Exit(0), True),
        (Progress(computing=True, commands=0), Exit(0), True),
    ],
)
def test_an_end_that_was_not_reported_is_a_lost_machine(
    tmp_path: Path, progress: Progress, ended: Exit | None, is_known: bool
) -> None:
    attempt = attempt_of(tmp_path)
    attempt.progress, attempt.state.last_exit = progress, ended
    if is_known:
        decide(attempt)
        return
    with pytest.raises(StageFailed) as failed:
        decide(attempt)
    assert failed.value.cause is Cause.MACHINE_LOST


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Exit(3), "exit code 3."),
        (Exit(139, 11), "exit code 139 (SIGSEGV)."),
        (Exit(127, message="Not found."), "exit code 127. Not found."),
    ],
)
def test_the_sentence_names_code_signal_and_message(
    tmp_path: Path, ended: Exit, words: str
) -> None:
    assert str(exit_cause(attempt_of(tmp_path), ended)[1]).endswith(words)


def test_a_full_disk_names_its_largest_files(tmp_path: Path) -> None:
    attempt = attempt_of(tmp_path)
    for number in range(20):
        (attempt.work / f"f{number:02}").write_bytes(b"x" * 8192 * (number + 1))
    detail = disk_detail(attempt)
    assert "Largest files: f19 " in detail
    assert "f09" not in detail
    for file in attempt.work.iterdir():
        file.unlink()
    assert disk_detail(attempt).endswith("Largest files: none.")
