"""Waiting for tasks: the server tells of each change, nobody asks again and again."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from simherd.contract import limits
from simherd.contract.lifecycle import TABLE, TERMINAL, Status
from simherd.errors import ApiError, InvalidInput, Unreachable, WaitTimeout
from simherd.http import PATIENCE_S, api

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from simherd.http import Api
    from simherd.task import Task

#: Seconds between two tries to go on; doubles up to the second one.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
#: Seconds in which the server must tell how tasks stand now.
_FIRST_LOOK_S = 30.0


def changes(connected: Api, ids: list[str], timeout_s: float | None = None) -> Iterator[Any]:
    """Each task's state now, and whenever it changes, until all have ended or the time is over;
    the states now are told however little time there is."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    pause, give_up_at = FIRST_PAUSE_S, time.monotonic() + PATIENCE_S
    told = False
    while not told or end is None or time.monotonic() < end:
        try:
            until = end if told or end is None else max(end, time.monotonic() + _FIRST_LOOK_S)
            with connected.events("POST", "/v1/tasks/changes", {"ids": ids}, until=until) as events:
                for kind, state in events:
                    pause, give_up_at = FIRST_PAUSE_S, time.monotonic() + PATIENCE_S
                    if kind == "end":
                        return
                    if kind == "now":
                        told = True
                    else:
                        yield state
                    if told and end is not None:
                        if time.monotonic() >= end:
                            return
                        if until != end:
                            break  # and once more, with a limit for the silence
        except (Unreachable, ApiError) as error:
            final = isinstance(error, ApiError) and error.status < 500
            if final or time.monotonic() > give_up_at:
                raise
            left = pause if end is None else min(pause, end - time.monotonic())
            time.sleep(max(0.0, left))
            pause = min(2 * pause, LONGEST_PAUSE_S)


def wait(
    tasks: Iterable[Task], *, silent_mode: bool = False, timeout: float | None = None
) -> list[Status]:
    """Wait until all of these tasks have ended, over one connection; Ctrl-C leaves them running.

    Args:
        tasks: any number of them.
        silent_mode: print nothing; else a line for each that ends.
        timeout: seconds to wait at the most; None: without end.

    Returns:
        The tasks' final statuses, in their order.

    Raises:
        WaitTimeout: some have not ended in time.
        NotFound: there is no such task.
    """
    wanted = list(tasks)
    if timeout is not None and not timeout >= 0:
        raise InvalidInput(f"timeout: {timeout} must not be negative.")
    ids = list(dict.fromkeys(task.id for task in wanted))
    end = None if timeout is None else time.monotonic() + timeout
    found: dict[str, Status] = {}
    for start in range(0, len(ids), limits.MAX_WAITED):
        some = ids[start : start + limits.MAX_WAITED]
        left = None if end is None else max(0.0, end - time.monotonic())
        for state in changes(api(), some, left):
            status = Status(state["status"])
            if status in TERMINAL and state["task_id"] not in found:
                found[state["task_id"]] = status
                if not silent_mode:
                    label = TABLE[status].label
                    print(f"{len(found)}/{len(ids)}  {state['task_id']}  {label}", file=sys.stdout)
    missing = [task for task in ids if task not in found]
    if missing:
        raise WaitTimeout(f"{len(missing)} of {len(ids)} tasks have not ended yet.", missing)
    return [found[task.id] for task in wanted]
