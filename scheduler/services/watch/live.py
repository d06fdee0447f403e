"""Reading a task's files: from its machine while it runs, from storage afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from scheduler.queue.live_answers import StreamGone
from scheduler.queue.live_frames import BadFrame, size_of
from scheduler.services.errors import (
    Conflict,
    GatewayTimeout,
    Invalid,
    ResourceNotFound,
    ServiceError,
)
from scheduler.services.watch.saved import SavedFiles
from scheduler.services.watch.states import TaskState
from simherd.contract import limits, objects
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import Status
from simherd.contract.live_frames import Ask, FrameKind, LiveRequest, Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from scheduler.queue.live_answers import Reading
    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime
    from simherd.contract.live_frames import Frame

#: Bytes of a whole answer that is gathered before it is passed on: the backlogs of all files that
#: may be asked for, once more for what JSON escapes.
LIVE_ANSWER_BYTES = 2 * limits.LIVE_MAX_FILES * limits.LIVE_BACKLOG_BYTES
#: Seconds after which an executor says that it still follows, where nothing is new, and after
#: which it is asked again when it did not.
LIVE_SILENT_S = 20.0
#: Seconds in which an executor must begin to answer.
LIVE_ANSWER_S = 10.0

log = logging.getLogger(__name__)

#: The error that users get for each trouble.
_ERRORS: dict[Trouble, type[ServiceError]] = {
    Trouble.NOT_FOUND: ResourceNotFound,
    Trouble.NOT_A_FILE: Invalid,
    Trouble.NOT_TEXT: Invalid,
    Trouble.INVALID: Invalid,
    Trouble.BUSY: GatewayTimeout,
    Trouble.NOT_RUNNING: Conflict,
    Trouble.UNREADABLE: GatewayTimeout,
}
_SILENT = "The task's machine does not respond. Try again in some seconds."
_BROKEN = "The task's machine sent an invalid reply. Its owner should look at it."
#: Seconds for storing a slice, with all its tries.
_FETCH_S = 180.0
#: Bytes of a slice that are read from storage at a time.
_BLOCK = 1024**2


class AttemptOver(Exception):
    """The attempt has ended on its machine: only the stored outputs are left."""


async def frames(
    rt: Runtime, state: TaskState, request: LiveRequest, reading: Reading
) -> AsyncIterator[Frame | None]:
    """Yield the frames of the machine's reply, and None now and then while none comes.

    Raises:
        AttemptOver: the attempt has ended there.
        GatewayTimeout: the machine sends nothing for too long.
        ServiceError: the machine refuses.
    """
    asked = replace(request, request=reading.request, offsets=_offsets(request))
    key = attempt_key(state.task_id, state.attempt)
    assert state.machine is not None
    await asyncio.to_thread(rt.queue.ask_live, state.group_id, state.machine, key, asked)
    silent_since, patience_s = time.monotonic(), LIVE_ANSWER_S
    async for frame in _valid_frames(reading):
        if frame is None:
            if time.monotonic() - silent_since > patience_s:
                raise GatewayTimeout(_SILENT)
            yield None
            continue
        # The next frame may take its time; where it follows, signs of life come in between.
        patience_s = LIVE_SILENT_S if request.follow else _FETCH_S
        if frame.kind is FrameKind.ERROR and "file" not in frame.body:
            raise refusal(frame.body)
        if frame.kind is FrameKind.END and frame.body.get("over"):
            raise AttemptOver
        if frame.body.get("file") not in (None, *request.files):
            log.warning("event=live_answer_broken request=%s error=another file", reading.request)
            raise GatewayTimeout(_BROKEN)
        if frame.kind is not FrameKind.ALIVE:
            yield frame
        if frame.kind is FrameKind.END:
            return
        silent_since = time.monotonic()


async def _valid_frames(reading: Reading) -> AsyncIterator[Frame | None]:
    try:
        async for frame in reading.frames():
            yield frame
    except StreamGone:
        raise GatewayTimeout(_SILENT) from None
    except BadFrame as error:
        log.warning("event=live_answer_broken request=%s error=%s", reading.request, error)
        raise GatewayTimeout(_BROKEN) from None


def _offsets(request: LiveRequest) -> tuple[int, ...]:
    return request.offsets or (-1,) * len(request.files)


def refusal(body: dict[str, Any]) -> ServiceError:
    """Return the error that users get for an executor's."""
    kind = _ERRORS[Trouble(body["code"])]
    return kind(f"file: {body['detail']}")


async def whole_reply(rt: Runtime, task: TaskRow, request: LiveRequest) -> list[Frame] | None:
    """Return the whole reply of the task's machine; None where only stored outputs are left.

    Raises:
        GatewayTimeout: the machine does not respond.
        ServiceError: the machine refuses.
    """
    state = state_of(task)
    if state.machine is None:
        return None
    reply: list[Frame] = []
    room = LIVE_ANSWER_BYTES
    async with rt.live.opened(state.group_id) as reading:
        try:
            async for frame in frames(rt, state, request, reading):
                if frame is not None:
                    room -= size_of(frame)
                    if room < 0:
                        log.warning("event=live_answer_too_long task=%s", task.id)
                        raise GatewayTimeout(_BROKEN)
                    reply.append(frame)
        except AttemptOver:
            return None
    return reply


def _only(reply: list[Frame], kind: FrameKind) -> dict[str, Any]:
    """Return the body of the first frame of a kind. Raises GatewayTimeout where there is none."""
    body = next((frame.body for frame in reply if frame.kind is kind), None)
    if body is None:
        raise GatewayTimeout(_BROKEN)
    return body


def state_of(task: TaskRow) -> TaskState:
    """Return the state of a task that was just read."""
    return TaskState(task.id, Status(task.status), task.attempt, task.group_id, task.machine_id)


async def list_files(rt: Runtime, task: TaskRow) -> dict[str, Any]:
    """Return the files of a task: `source` (live or saved), `entries`, `truncated`."""
    reply = await whole_reply(rt, task, LiveRequest(Ask.LIST))
    if reply is None:
        entries = await asyncio.to_thread(SavedFiles(rt, task).entries)
        shown = [asdict(e) for e in entries[: limits.LIVE_MAX_ENTRIES]]
        return {"source": "saved", "entries": shown, "truncated": len(entries) > len(shown)}
    rows = [row for f in reply if f.kind is FrameKind.ENTRIES for row in f.body["entries"]]
    cut = reply[-1].body["truncated"] or len(rows) > limits.LIVE_MAX_ENTRIES
    return {"source": "live", "entries": rows[: limits.LIVE_MAX_ENTRIES], "truncated": cut}


async def last_modified(rt: Runtime, task: TaskRow) -> dict[str, Any]:
    """Return the file that was written to last, and the time. Raises ResourceNotFound."""
    reply = await whole_reply(rt, task, LiveRequest(Ask.LAST_MODIFIED))
    if reply is not None:
        return {
            "source": "live",
            "entry": _only(reply, FrameKind.FILE)["entry"],
            "now": time.time(),
        }
    entries = await asyncio.to_thread(SavedFiles(rt, task).entries)
    newest = max(
        (e for e in entries if e.name != objects.SYSTEM_METRICS),
        key=lambda e: e.modified_at,
        default=None,
    )
    if newest is None:
        raise ResourceNotFound("There is no file yet.")
    return {"source": "saved", "entry": asdict(newest), "now": time.time()}


async def top(rt: Runtime, task: TaskRow) -> str:
    """Return the processes of the running command. Raises Conflict when there is none."""
    reply = await whole_reply(rt, task, LiveRequest(Ask.TOP))
    if reply is None:
        raise Conflict(f"Task {task.id} does not run: there is nothing to show.")
    return str(_only(reply, FrameKind.TOP)["text"])


async def tail_once(rt: Runtime, task: TaskRow, request: LiveRequest) -> dict[str, Any]:
    """Return the last lines of some files: `source`, and `files` with text, or error and detail."""
    reply = await whole_reply(rt, task, request)
    if reply is None:
        rows = await asyncio.to_thread(_saved_tails, rt, task, request)
        return {"source": "saved", "files": rows}
    rows = []
    for name in request.files:
        bodies = [f.body for f in reply if f.body.get("file") == name]
        row: dict[str, Any] = {"file": name, "text": "".join(b.get("text", "") for b in bodies)}
        row |= {k: v for b in bodies for k, v in b.items() if k in {"code", "detail", "offset"}}
        rows.append(row)
    return {"source": "live", "files": rows}


def _saved_tails(rt: Runtime, task: TaskRow, request: LiveRequest) -> list[dict[str, Any]]:
    saved = SavedFiles(rt, task)
    rows: list[dict[str, Any]] = []
    for name, offset in zip(request.files, _offsets(request), strict=True):
        try:
            rows.append({"file": name, **asdict(saved.tail(name, request.lines, offset))})
        except ServiceError as error:
            code = Trouble.NOT_FOUND if isinstance(error, ResourceNotFound) else Trouble.UNREADABLE
            rows.append({"file": name, "text": "", "code": code.value, "detail": str(error)})
    return rows


async def content(rt: Runtime, task: TaskRow, name: str) -> AsyncGenerator[bytes, None]:
    """Yield a file in pieces, as it is now or as it was stored.

    Raises, before the first piece:
        ServiceError: it cannot be read.
    """
    state = state_of(task)
    if state.machine is not None:
        async with rt.live.opened(state.group_id) as reading:
            try:
                async for piece in _fetched(rt, task, state, name, reading):
                    yield piece
                return
            except AttemptOver:
                pass
    pieces = await asyncio.to_thread(SavedFiles(rt, task).content, name)
    while (saved := await asyncio.to_thread(_next, pieces)) is not None:
        yield saved


async def _fetched(
    rt: Runtime, task: TaskRow, state: TaskState, name: str, reading: Reading
) -> AsyncIterator[bytes]:
    """Yield a file, slice by slice. Raises GatewayTimeout where it arrived damaged."""
    digest, expected = hashlib.sha256(), 0
    async for frame in frames(rt, state, LiveRequest(Ask.FETCH, (name,)), reading):
        if frame is None:
            continue
        if frame.kind is FrameKind.SLICE:
            if frame.body["number"] != expected:
                # A restarted agent has begun again.
                raise GatewayTimeout("The machine's agent was restarted. Fetch the file again.")
            expected += 1
            async for piece in _taken(rt, task, reading.request, frame.body):
                digest.update(piece)
                yield piece
        elif frame.kind is FrameKind.END and frame.body.get("sha256") != digest.hexdigest():
            raise GatewayTimeout("The file arrived incomplete. Fetch it again.")


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


async def _taken(
    rt: Runtime, task: TaskRow, request: str, body: dict[str, Any]
) -> AsyncIterator[bytes]:
    """Yield a slice that the executor has stored, and delete it."""
    name = f"{objects.LIVE_SLICE}{request}/{body['number']}"
    path = objects.live_slice_path(task.storage_prefix, task.id, task.attempt, name)
    try:
        for start in range(0, body["size"], _BLOCK):
            length = min(_BLOCK, body["size"] - start)
            yield await asyncio.to_thread(rt.objects.read, task.user_id, path, start, length)
    finally:
        await asyncio.to_thread(rt.objects.delete, task.user_id, path)
