"""Waiting for tasks: the server reports each change, nothing polls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from simherd.errors import ApiError, Unreachable
from simherd.reconnect import ReconnectPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simherd.http import Api


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
