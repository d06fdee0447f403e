"""Following a task as the server reports it: from before it starts until it has ended."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from simherd.contract.lifecycle import TABLE, Status
from simherd.contract.objects import COMMAND_MARK, STDERR, STDOUT
from simherd.errors import ApiError, Unreachable
from simherd.reconnect import ReconnectPolicy
from simherd.visible import VisibleStream, is_terminal, visible_line
from simherd.waiting import BROKEN_OFF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simherd.http import Api, EventStream

#: What stdout and stderr show besides each other: of the lines that say which command it is, one.
STD_FILES = (STDOUT, STDERR)


@dataclass(frozen=True)
class FollowUpdate:
    """What the server reported: `kind` is status, position, text, error or end."""

    kind: str
    body: dict[str, Any]


class Follow:
    """What is new about one task and in some of its files; goes on where a connection broke."""

    def __init__(
        self,
        api: Api,
        task_id: str,
        files: tuple[str, ...] = (),
        lines: int = 10,
        *,
        wait: bool = True,
    ) -> None:
        """`lines`: of each file, from its end; `wait`: for files that are not there yet."""
        self._api, self._task_id = api, task_id
        self._files, self._lines, self._wait = files, lines, wait
        self._offsets: dict[str, int] = {}
        self._attempt = 0
        self._state: tuple[Any, Any] | None = None
        self._events: EventStream | None = None
        self._closed = False

    def close(self) -> None:
        """End it, also from another thread."""
        self._closed = True
        events = self._events
        if events is not None:
            events.close()

    def __iter__(self) -> Iterator[FollowUpdate]:
        policy = ReconnectPolicy()
        while not self._closed:
            try:
                for news in self._once():
                    policy.received()
                    yield news
                    if news.kind == "end":
                        return
                raise Unreachable(BROKEN_OFF)
            except (Unreachable, ApiError) as error:
                if self._closed:
                    return
                time.sleep(policy.pause_after(error))

    def _once(self) -> Iterator[FollowUpdate]:
        offsets = [self._offsets.get(f, -1) for f in self._files] if self._offsets else []
        with self._api.events(
            "GET",
            f"/v1/tasks/{self._task_id}/follow",
            file=list(self._files),
            lines=self._lines,
            offset=offsets,
            attempt=self._attempt if offsets else 0,
            wait=self._wait,
        ) as events:
            self._events = events
            try:
                for kind, body in events:
                    if self._is_new(kind, body):
                        yield FollowUpdate(kind, body)
            finally:
                self._events = None  # its connection may serve another request from here on

    def _is_new(self, kind: str, body: dict[str, Any]) -> bool:
        if kind == "text":
            if body["attempt"] != self._attempt:
                self._offsets.clear()
            self._attempt = body["attempt"]
            self._offsets[body["file"]] = body["offset"]
        elif kind == "status":
            state = (body["status"], body["attempt"])
            known, self._state = self._state, state
            return state != known
        return True


class Output:
    """Where text of a simulation is printed: as it was written, but visible on a terminal."""

    def __init__(self, out: TextIO, *, raw: bool = False) -> None:
        """`raw`: on a terminal too it is printed as it was written."""
        self._out = out
        self._shown = None if raw or not is_terminal(out) else VisibleStream()

    def write(self, text: str) -> None:
        """Print it now."""
        if text:
            self._out.write(self._shown.feed(text) if self._shown else text)
            with contextlib.suppress(ValueError):
                self._out.flush()


class Printer:
    """Prints news of a task for people."""

    def __init__(self, out: Output, *, statuses: bool = True) -> None:
        self._out = out
        self._statuses = statuses
        self._rest = ""

    def show(self, news: FollowUpdate) -> None:
        """Print it, where it is something to be shown."""
        body = news.body
        if news.kind == "text":
            self._text(body)
        elif not self._statuses:
            return
        elif news.kind == "status":
            label = TABLE[Status(body["status"])].label
            self._say(f"■ {label}: {body['description']}")
        elif news.kind == "position":
            self._say(f"■   tasks ahead in the queue: {body['tasks_ahead']}")

    def ended(self, status: Status, description: str) -> None:
        """Say how it ended."""
        self._out.write(self._rest)
        self._rest = ""
        if self._statuses:
            self._say(f"■ {TABLE[status].label}: {description}")

    def _text(self, body: dict[str, Any]) -> None:
        if body.get("skipped"):
            self._say(f"■ {body['skipped']} bytes of {body['file']} are left out here")
        text = body["text"]
        if body["file"] != STDERR:
            self._out.write(text)
            return
        # Shown beside stdout, which says the same: the lines that name a command.
        lines = (self._rest + text).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith("\n") else ""
        if self._rest and not COMMAND_MARK.startswith(self._rest[: len(COMMAND_MARK)]):
            lines.append(self._rest)
            self._rest = ""
        self._out.write("".join(line for line in lines if not line.startswith(COMMAND_MARK)))

    def _say(self, line: str) -> None:
        self._out.write(f"{visible_line(line)}\n")
