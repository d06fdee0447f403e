"""Following a task until it ends: a line when its status changes, its output as it is written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from simherd.contract.lifecycle import RUNNING, TABLE, TERMINAL, Status
from simherd.contract.objects import COMMAND_MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from simherd.http import Api
    from simherd.info import TaskInfo

#: Seconds the server may hold a request for log lines.
_LOG_WAIT_S = 1.0
_STREAMS = ("stdout", "stderr")


class LogReader:
    """What a task writes to stdout and stderr, piece by piece."""

    def __init__(self, api: Api, task_id: str, streams: tuple[str, ...] = _STREAMS) -> None:
        self._api = api
        # Shown together, one of the two says which command it is.
        self._unmarked = streams[1:]
        self._path = f"/v1/tasks/{task_id}/log"
        self._cursors = dict.fromkeys(streams, "")

    def read(self, wait_s: float) -> list[tuple[str, str]]:
        """New pieces as (stream, text); waits for some on the first stream."""
        found = []
        for stream in self._cursors:
            while True:
                got = self._api.get(
                    self._path, stream=stream, after=self._cursors[stream], wait_s=wait_s
                )
                self._cursors[stream] = got["cursor"]
                wait_s = 0
                if not got["text"]:
                    break
                text = got["text"]
                if stream in self._unmarked:
                    lines = text.splitlines(keepends=True)
                    text = "".join(x for x in lines if not x.startswith(COMMAND_MARK))
                found.append((stream, text))
                if got["ended"]:
                    break
        return found


class Watcher:
    """Prints how a task fares; `look` is called with each new state until the task has ended."""

    def __init__(self, out: TextIO, show_logs: bool, api: Api, task_id: str) -> None:
        self._out = out
        self._api = api
        self._task_id = task_id
        self._logs = LogReader(api, task_id) if show_logs else None
        self._shown: tuple[Status, int] | None = None
        self._ahead: int | None = None

    def look(self, info: TaskInfo) -> None:
        """Show what is new; waits a little for log lines while the simulation runs."""
        history = info.get("status_history") or []
        state = (info.status, len(history))
        if info.is_terminal:
            self._show_logs(0)
        if state != self._shown:
            self._shown = state
            self._say(f"{TABLE[info.status].label}: {info.description}")
        if info.status == Status.SUBMITTED:
            self._show_position()
        elif info.status in RUNNING:
            self._show_logs(_LOG_WAIT_S)

    def _show_position(self) -> None:
        position = self._api.get(f"/tasks/{self._task_id}/status")["position_in_queue"]
        ahead = position["tasks_ahead"] if position else None
        if ahead is not None and ahead != self._ahead:
            self._say(f"  tasks ahead in the queue: {ahead}")
        self._ahead = ahead

    def _show_logs(self, wait_s: float) -> None:
        for _, text in self._logs.read(wait_s) if self._logs else ():
            self._out.write(text)
            self._out.flush()

    def _say(self, line: str) -> None:
        self._out.write(f"■ {line}\n")
        self._out.flush()


def follow(
    fetch: Callable[[], TaskInfo],
    watcher: Watcher | None,
    polling_period: float,
    until: Status | None = None,
) -> TaskInfo:
    """Look until the task has ended, or has the status `until`."""
    while True:
        started = time.monotonic()
        info = fetch()
        if watcher:
            watcher.look(info)
        if info.status in TERMINAL or info.status == until:
            return info
        # A long look at the log was the pause.
        time.sleep(max(0.0, min(polling_period, polling_period - (time.monotonic() - started))))
