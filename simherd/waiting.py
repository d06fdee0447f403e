"""Waiting for tasks: the server reports each change, nothing polls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from simherd.contract import limits
from simherd.contract.lifecycle import TABLE, TERMINAL, Status
from simherd.errors import ApiError, InvalidInput, Unreachable, WaitTimeout
from simherd.http import Api, api
from simherd.reconnect import ReconnectPolicy
from simherd.visible import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from simherd.task import Task

#: The route that reports changes.
CHANGES = "/v1/tasks/changes"
BROKEN_OFF = "The server's response broke off."


def changes(connected: Api, ids: list[str], timeout_s: float | None = None) -> Iterator[Any]:
    """Each task's state now, and whenever it changes, until all have ended or the time is over;
    the states now are reported however little time there is."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    policy, has_state = ReconnectPolicy(), False
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        if has_state and left == 0.0:
            return
        try:
            with connected.events("POST", CHANGES, {"ids": ids, "seconds": left}) as events:
                for kind, state in events:
                    policy.received()
                    if kind == "end":
                        return
                    has_state = True
                    yield state
            raise Unreachable(BROKEN_OFF)
        except (Unreachable, ApiError) as error:
            time.sleep(policy.pause_after(error))


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
                    say(f"{len(found)}/{len(ids)}  {state['task_id']}  {label}")
    missing = [task for task in ids if task not in found]
    if missing:
        raise WaitTimeout(f"{len(missing)} of {len(ids)} tasks have not ended yet.", missing)
    return [found[task.id] for task in wanted]
