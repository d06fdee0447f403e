"""A task's files for whoever looks: from its machine while it runs, from storage afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import asdict, dataclass
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
from simherd.contract.live_frames import Ask, FrameKind, LiveRequest, Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from scheduler.queue.live_answers import Reading
    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime
    from simherd.contract.live_frames import Frame

log = logging.getLogger(__name__)

#: How each trouble is told to users.
_ERRORS: dict[Trouble, type[ServiceError]] = {
    Trouble.NOT_FOUND: ResourceNotFound,
    Trouble.NOT_A_FILE: Invalid,
    Trouble.NOT_TEXT: Invalid,
    Trouble.INVALID: Invalid,
    Trouble.BUSY: GatewayTimeout,
    Trouble.NOT_RUNNING: Conflict,
    Trouble.UNREADABLE: GatewayTimeout,
}
_SILENT = "The task's machine does not answer just now. Try again in some seconds."
_BROKEN = "The task's machine answers with what cannot be read. Its owner should have a look at it."
#: Seconds for storing a slice, with all its tries.
_FETCH_S = 180.0
#: Bytes of a slice that are read from storage at a time.
_BLOCK = 1024**2


class AttemptOver(Exception):
    """The machine has nothing of the attempt any more: what was saved is what there is."""


@dataclass(frozen=True)
class Question:
    """What is asked of a task; the fields of `LiveRequest`."""

    ask: Ask
    files: tuple[str, ...] = ()
    lines: int = 10
    follow: bool = False
    wait: bool = False
    offsets: tuple[int, ...] = ()


async def frames(
    rt: Runtime, state: TaskState, question: Question, reading: Reading
) -> AsyncIterator[Frame | None]:
    """What the machine answers; None now and then while it says nothing.

    Raises:
        AttemptOver: the attempt has ended there.
        Unanswered: the machine says nothing at all, where it must.
        Refused: it cannot be had.
    """
    asked = LiveRequest(reading.request, **_fields(question))
    key = attempt_key(state.task_id, state.attempt)
    assert state.machine is not None
    await asyncio.to_thread(rt.queue.ask_live, state.group_id, state.machine, key, asked)
    silent_since, patience_s = time.monotonic(), limits.LIVE_ANSWER_S
    async for frame in _heard(reading):
        if frame is None:
            if time.monotonic() - silent_since > patience_s:
                raise GatewayTimeout(_SILENT)
            yield None
            continue
        # What comes next may take its time, as long as it says so where it follows.
        patience_s = limits.LIVE_SILENT_S if question.follow else _FETCH_S
        if frame.kind is FrameKind.ERROR and "file" not in frame.body:
            raise refusal(frame.body)
        if frame.kind is FrameKind.END and frame.body.get("over"):
            raise AttemptOver
        if frame.body.get("file") not in (None, *question.files):
            log.warning("event=live_answer_broken request=%s error=another file", reading.request)
            raise GatewayTimeout(_BROKEN)
        if frame.kind is not FrameKind.ALIVE:
            yield frame
        if frame.kind is FrameKind.END:
            return
        silent_since = time.monotonic()


async def _heard(reading: Reading) -> AsyncIterator[Frame | None]:
    try:
        async for frame in reading.frames():
            yield frame
    except StreamGone:
        raise GatewayTimeout(_SILENT) from None
    except BadFrame as error:
        log.warning("event=live_answer_broken request=%s error=%s", reading.request, error)
        raise GatewayTimeout(_BROKEN) from None


def _fields(question: Question) -> dict[str, Any]:
    fields = asdict(question)
    fields["offsets"] = fields["offsets"] or (-1,) * len(question.files)
    return fields


def refusal(body: dict[str, Any]) -> ServiceError:
    """What an executor's error is to users."""
    kind = _ERRORS[Trouble(body["code"])]
    return kind(f"file: {body['detail']}")


async def answer(rt: Runtime, task: TaskRow, question: Question) -> list[Frame] | None:
    """The whole answer of the task's machine; None where what was saved is what there is.

    Raises:
        Unanswered: the machine does not answer.
        Refused: it cannot be had.
    """
    state = state_of(task)
    if state.machine is None:
        return None
    found: list[Frame] = []
    room = limits.LIVE_ANSWER_BYTES
    async with rt.live.opened(state.group_id) as reading:
        try:
            async for frame in frames(rt, state, question, reading):
                if frame is not None:
                    room -= size_of(frame)
                    if room < 0:
                        log.warning("event=live_answer_too_long task=%s", task.id)
                        raise GatewayTimeout(_BROKEN)
                    found.append(frame)
        except AttemptOver:
            return None
    return found


def _only(found: list[Frame], kind: FrameKind) -> dict[str, Any]:
    """The body of the first frame of a kind. Raises Unanswered where there is none."""
    body = next((frame.body for frame in found if frame.kind is kind), None)
    if body is None:
        raise GatewayTimeout(_BROKEN)
    return body


def state_of(task: TaskRow) -> TaskState:
    """The state of a task that was just read."""
    from simherd.contract.lifecycle import Status

    return TaskState(task.id, Status(task.status), task.attempt, task.group_id, task.machine_id)


async def list_files(rt: Runtime, task: TaskRow) -> dict[str, Any]:
    """The files of a task: `source` (live or saved), `entries`, `truncated`."""
    found = await answer(rt, task, Question(Ask.LIST))
    if found is None:
        entries = await asyncio.to_thread(SavedFiles(rt, task).entries)
        shown = [asdict(e) for e in entries[: limits.LIVE_MAX_ENTRIES]]
        return {"source": "saved", "entries": shown, "truncated": len(entries) > len(shown)}
    rows = [row for f in found if f.kind is FrameKind.ENTRIES for row in f.body["entries"]]
    cut = found[-1].body["truncated"] or len(rows) > limits.LIVE_MAX_ENTRIES
    return {"source": "live", "entries": rows[: limits.LIVE_MAX_ENTRIES], "truncated": cut}


async def last_modified(rt: Runtime, task: TaskRow) -> dict[str, Any]:
    """The file that was written to last, and what time it is. Raises NotFound."""
    found = await answer(rt, task, Question(Ask.LAST_MODIFIED))
    if found is not None:
        return {
            "source": "live",
            "entry": _only(found, FrameKind.FILE)["entry"],
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
    """The processes of the command that runs. Raises Conflict when none does."""
    found = await answer(rt, task, Question(Ask.TOP))
    if found is None:
        raise Conflict(f"Task {task.id} does not run: there is nothing to show.")
    return str(_only(found, FrameKind.TOP)["text"])


async def tail_once(rt: Runtime, task: TaskRow, question: Question) -> dict[str, Any]:
    """The last lines of some files: `source`, and `files` with text, or error and detail."""
    found = await answer(rt, task, question)
    if found is None:
        rows = await asyncio.to_thread(_saved_tails, rt, task, question)
        return {"source": "saved", "files": rows}
    rows = []
    for name in question.files:
        mine = [f.body for f in found if f.body.get("file") == name]
        row: dict[str, Any] = {"file": name, "text": "".join(b.get("text", "") for b in mine)}
        row |= {k: v for b in mine for k, v in b.items() if k in {"code", "detail", "offset"}}
        rows.append(row)
    return {"source": "live", "files": rows}


def _saved_tails(rt: Runtime, task: TaskRow, question: Question) -> list[dict[str, Any]]:
    saved = SavedFiles(rt, task)
    rows: list[dict[str, Any]] = []
    for name, offset in zip(question.files, _fields(question)["offsets"], strict=True):
        try:
            rows.append({"file": name, **asdict(saved.tail(name, question.lines, offset))})
        except ServiceError as error:
            code = Trouble.NOT_FOUND if isinstance(error, ResourceNotFound) else Trouble.UNREADABLE
            rows.append({"file": name, "text": "", "code": code.value, "detail": str(error)})
    return rows


async def content(rt: Runtime, task: TaskRow, name: str) -> AsyncGenerator[bytes, None]:
    """A file as it is now, piece by piece, or as it was saved.

    Raises, before the first piece:
        Refused: it cannot be had.
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
    """A file, slice by slice. Raises Unanswered where it did not come as it was read."""
    digest, expected = hashlib.sha256(), 0
    async for frame in frames(rt, state, Question(Ask.FETCH, (name,)), reading):
        if frame is None:
            continue
        if frame.kind is FrameKind.SLICE:
            if frame.body["number"] != expected:
                # An agent that was started anew has begun again.
                raise GatewayTimeout(
                    "The machine was started anew meanwhile. Fetch the file again."
                )
            expected += 1
            async for piece in _taken(rt, task, reading.request, frame.body):
                digest.update(piece)
                yield piece
        elif frame.kind is FrameKind.END and frame.body.get("sha256") != digest.hexdigest():
            raise GatewayTimeout("The file did not come whole. Fetch it again.")


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


async def _taken(
    rt: Runtime, task: TaskRow, request: str, body: dict[str, Any]
) -> AsyncIterator[bytes]:
    """A slice that the executor has stored; afterwards it is gone."""
    name = f"{objects.LIVE_SLICE}{request}/{body['number']}"
    path = objects.live_slice_path(task.storage_prefix, task.id, task.attempt, name)
    try:
        for start in range(0, body["size"], _BLOCK):
            length = min(_BLOCK, body["size"] - start)
            yield await asyncio.to_thread(rt.objects.read, task.user_id, path, start, length)
    finally:
        await asyncio.to_thread(rt.objects.delete, task.user_id, path)
