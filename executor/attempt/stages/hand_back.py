"""Saving the work of an attempt whose machine is reclaimed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from executor.attempt.errors import StageFailed
from executor.attempt.stages.outputs import store_outputs
from executor.transfer.client import TransferFailed
from simherd.contract.cause import OUTCOMES, Cause

if TYPE_CHECKING:
    from executor.attempt.context import Attempt

log = logging.getLogger(__name__)


def hand_back(attempt: Attempt) -> None:
    """Save what the time allows: a checkpoint, then outputs if no other attempt will make them.
    Raises Stopped: the lease was lost."""
    state, timetable = attempt.state, attempt.state.timetable
    assert timetable is not None
    sentences = [OUTCOMES[Cause.SPOT_RECLAIMED].sentence]
    checkpointer = attempt.checkpointer
    with attempt.paused_by(timetable.pause(attempt.switch)):
        try:
            generation = None if checkpointer is None else checkpointer.save_now()
            if generation is not None:
                state.saved["generation"] = generation
                sentences.append(f"Checkpoint {generation} was saved.")
            if not (attempt.spec.resubmit and checkpointer is not None):
                store_outputs(attempt)
                state.saved["outputs"] = True
                sentences.append("Its outputs until then were stored.")
        except (StageFailed, TransferFailed, OSError) as error:
            log.warning("event=not_saved attempt=%s error=%s", attempt.spec.key, error)
            sentences.append(f"Not everything could be saved: {error}")
    state.detail = " ".join(sentences)
