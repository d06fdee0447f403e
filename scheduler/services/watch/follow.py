"""Following a task: its status and what is added to its files, over attempts, until its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import redis

from scheduler.services.errors import GatewayTimeout, ServiceError
from scheduler.services.watch.live import AttemptOver, frames, tail_once
from scheduler.services.watch.states import TaskState, describe, follow_states
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import Status
from simherd.contract.live_frames import FrameKind, LiveRequest

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime

#: Seconds between two reads of a task's place in the queue, while it is followed.
_LOOK_S = 2.0
#: Seconds until a machine that did not respond is asked again.
_AGAIN_S = 2.0
#: News that may wait for their reader.
_WAITING = 4

#: A name and its fields: status, position, text, error or end.
News = tuple[str, dict[str, Any]]


@dataclass
class _Following:
    """The state of one follower."""

    rt: Runtime
    task: TaskRow
    request: LiveRequest
    #: The attempt to which the request's offsets belong.
    known: int
    #: File → the byte up to which it was sent, of the attempt that is followed.
    offsets: dict[str, int] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    news: asyncio.Queue[News | None] = field(default_factory=lambda: asyncio.Queue(_WAITING))
    reader: asyncio.Task[None] | None = None
    attempt: int = 0

    async def states(self) -> None:
        """Report each state, and start to read the files; return when the task has ended."""
        user, tasks = self.task.user_id, frozenset({self.task.id})
        ahead: int | None = None
        state: TaskState | None = None
        async with contextlib.aclosing(follow_states(self.rt, user, tasks, _LOOK_S)) as states:
            async for change in states:
                state = change or state
                if change is not None:
                    await self._enter(change)
                if state is not None and state.status is Status.SUBMITTED:
                    ahead = await self._report_position(state, ahead)
        await self._stop_reading()
        if state is not None:
            await self._rest(state)
            await self.news.put(("end", state.json()))
        await self.news.put(None)

    async def _enter(self, state: TaskState) -> None:
        sentence = await asyncio.to_thread(describe, self.rt, state.task_id)
        if state.attempt != self.attempt:
            await self._stop_reading()
            self.attempt = state.attempt
            self.offsets.clear()
            self.failed.clear()
        if not state.ended:
            await self.news.put(("status", {**state.json(), "description": sentence}))
        if state.machine is not None and self.reader is None and self.request.files:
            self.reader = asyncio.create_task(self._read(state))

    async def _report_position(self, state: TaskState, before: int | None) -> int | None:
        key = attempt_key(state.task_id, state.attempt)
        with contextlib.suppress(redis.RedisError):
            ahead = await asyncio.to_thread(self.rt.queue.reader.position, state.group_id, key)
            if ahead is not None and ahead != before:
                await self.news.put(("position", {"tasks_ahead": ahead}))
            return ahead
        return before

    async def _stop_reading(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.cancel()
            # `await reader` could not distinguish our cancellation from the reader's.
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, state: TaskState) -> None:
        """Pass on what the machine sends; ask again where it did not respond."""
        # The Redis library now and then takes a cancellation for the end of a connection: a task
        # that is no longer the reader has been cancelled.
        while self.reader is asyncio.current_task():
            request = self._rest_of_request()
            try:
                async with self.rt.live.opened(state.group_id) as reading:
                    async for frame in frames(self.rt, state, request, reading):
                        if frame is not None:
                            await self._pass_on(frame.kind, frame.body)
                return
            except AttemptOver:
                return
            except GatewayTimeout:
                pass
            except ServiceError as error:
                await self.news.put(("error", {"detail": str(error)}))
                return
            except redis.RedisError:
                # Redis is unreachable: the text of this time stays in the files.
                pass
            except Exception:
                # The follower must not wait for ever.
                log.exception("event=live_reading_broke task=%s", state.task_id)
            await asyncio.sleep(_AGAIN_S)

    def _rest_of_request(self) -> LiveRequest:
        files = tuple(f for f in self.request.files if f not in self.failed)
        offsets = tuple(self.offsets.get(f, self._first(f)) for f in files)
        return replace(self.request, files=files, offsets=offsets)

    def _first(self, file: str) -> int:
        given = dict(zip(self.request.files, self.request.offsets, strict=False))
        if self.known:
            # Another attempt writes new files: all of their text is new.
            return given.get(file, -1) if self.attempt == self.known else 0
        return -1 if self.attempt <= self.task.attempt else 0

    async def _pass_on(self, kind: FrameKind, body: dict[str, Any]) -> None:
        # Recorded after the report: a reader that is stopped while the queue is full sent nothing.
        if kind is FrameKind.ERROR:
            await self.news.put(("error", body))
            self.failed.add(body["file"])
        elif kind is FrameKind.TEXT and (fresh := self._unseen(body)):
            await self.news.put(("text", {**fresh, "attempt": self.attempt}))
            self.offsets[body["file"]] = body["offset"]

    def _unseen(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Return a piece without what was sent before: a restarted agent begins again."""
        seen = self.offsets.get(body["file"], body["start"])
        if body["anew"] or seen <= body["start"]:
            return body
        if body["offset"] <= seen:
            return None
        raw = body["text"].encode()
        text = raw[seen - body["start"] :].decode(errors="replace")
        return {**body, "text": text, "start": seen}

    async def _rest(self, state: TaskState) -> None:
        """Report what was written after the machine's last frame."""
        request = self._rest_of_request()
        if not request.files or not state.attempt:
            return
        self.task.status, self.task.attempt = state.status.value, state.attempt
        tails = await tail_once(self.rt, self.task, request)
        for row in tails["files"]:
            if "code" not in row:
                if row["text"]:
                    await self.news.put(("text", {**row, "attempt": state.attempt}))
            elif row["file"] not in self.offsets:
                await self.news.put(("error", row))


async def follow_task(
    rt: Runtime, task: TaskRow, request: LiveRequest, known: int
) -> AsyncGenerator[News, None]:
    """Yield what is new about a task, and in `request.files`, until it has ended.

    `status` (see `TaskState.json`, with description), `position` (tasks_ahead), `text` (file, text,
    start, offset, skipped, attempt), `error` (detail; file and code), and at last `end`.

    `known`: the attempt whose files were read up to the request's offsets; 0: none were.
    """
    following = _Following(rt, task, request, known)
    watcher = asyncio.create_task(following.states())
    taker: asyncio.Future[News | None] | None = None
    try:
        while True:
            taker = asyncio.ensure_future(following.news.get())
            await asyncio.wait({taker, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if watcher.done() and watcher.exception() is not None:
                # It failed: raise its error.
                taker.cancel()
                await watcher
            item = await taker
            if item is None:
                return
            yield item
    finally:
        if taker is not None:
            taker.cancel()
        watcher.cancel()
        reader, following.reader = following.reader, None
        if reader is not None:
            reader.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
