"""Making an attempt ready to run: its image, its inputs, its checkpoint."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from executor.archive import load_stamps
from executor.attempt.checkpointer import make_folder
from executor.attempt.errors import StageFailed
from executor.attempt.stages.image import fetch_image
from executor.attempt.stages.inputs import fetch_inputs
from executor.attempt.stages.restore import restore
from simherd.contract.cause import Cause
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from executor.attempt.context import Attempt

#: Seconds that a stopping agent waits for an abandoned image pull: the engine may hold one for
#: minutes, and it ends with the process.
PULL_JOIN_S = 1.0


def prepare(attempt: Attempt) -> None:
    """Fetch what the commands need, or wait for what was prefetched.
    Raises StageFailed: something cannot be fetched; Stopped: the switch was tripped."""
    if attempt.state.prefetched is not None:
        attempt.state.prefetched()
    else:
        fetch(attempt)
    attempt.note(restored=attempt.state.restored)


def recall_preparation(attempt: Attempt) -> None:
    """Read what an earlier agent kept of the inputs and the resources."""
    attempt.state.inputs = load_stamps(attempt.stamps)
    attempt.state.peaks.recall(attempt.series)
    attempt.state.restored = attempt.progress.restored


def fetch(attempt: Attempt) -> None:
    """Fetch the image and the inputs at the same time: they come from different places.
    Raises StageFailed: something cannot be fetched; Stopped: the switch was tripped."""
    failures: list[Exception] = []
    fetched = threading.Event()

    def image() -> None:
        try:
            fetch_image(attempt)
        except Exception as error:
            failures.append(error)
        finally:
            fetched.set()
            attempt.switch.wake()

    # A registry that does not respond blocks its thread for minutes, and the pull cannot be
    # cancelled: a stopped attempt abandons the thread, and the next attempt finds the image.
    name = f"image-{attempt.spec.key}"
    thread = threading.Thread(target=in_context(image), name=name, daemon=True)
    attempt.state.abandoned_threads.append(thread)
    thread.start()
    fetch_inputs(attempt)
    if attempt.spec.checkpoints is not None:
        try:
            make_folder(attempt.work)
        except FileExistsError as error:
            detail = "The inputs hold a file 'checkpoint'; that name is taken for the folder."
            raise StageFailed(Cause.INPUT_INVALID, detail) from error
        if attempt.spec.checkpoints.stored:
            attempt.state.restored = restore(attempt)
    attempt.switch.wait(None, fetched.is_set)
    attempt.switch.check()
    thread.join()
    if failures:
        raise failures[0]
