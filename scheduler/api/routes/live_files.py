"""A task's files while it runs and afterwards, and its status as it changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from scheduler.api.bounded import AttemptNumber, FilePath, Id, Seconds, StrictBody
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.limits import MAX_INTEGER
from scheduler.api.sse import ClosedStream, Streams
from scheduler.api.strict import StrictRouter
from scheduler.services.errors import Invalid, ResourceNotFound
from scheduler.services.tasks.listing import owned_task
from scheduler.services.watch import live
from scheduler.services.watch.follow import follow_task
from scheduler.services.watch.states import follow_states, read_states
from simherd.contract import limits
from simherd.contract.live_frames import Ask, LiveRequest

router = StrictRouter(prefix="/v1/tasks", tags=["tasks"])

Files = Annotated[list[FilePath], Query(max_length=limits.LIVE_MAX_FILES)]
#: A place in a file, bytes; -1: its end.
Offset = Annotated[int, Field(ge=-1, le=MAX_INTEGER)]
Lines = Annotated[int, Query(ge=0, le=limits.LIVE_MAX_LINES)]


class Waited(StrictBody):
    """The tasks that are waited for."""

    ids: list[Id] = Field(min_length=1, max_length=limits.MAX_WAITED)
    #: For how long; without it, until all have ended.
    seconds: Seconds | None = None


def streams_of(request: Request) -> Streams:
    """Return this process' open streams."""
    streams = request.app.state.streams
    assert isinstance(streams, Streams)
    return streams


@router.post("/changes")
async def changes(
    request: Request, rt: RuntimeDep, user: UserDep, body: Waited
) -> StreamingResponse:
    """Events `task`: each task's status, now and whenever it changes; `end` when all have ended, or
    the time is over."""
    task_ids = frozenset(body.ids)
    known = await run_in_threadpool(read_states, rt, user.id, task_ids)
    if missing := sorted(task_ids - known.keys()):
        raise ResourceNotFound(f"ids: there is no task {missing[0]!r}.")

    async def news() -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        states = follow_states(rt, user.id, task_ids, seconds=body.seconds)
        async with aclosing(states):
            async for state in states:
                if state is not None:
                    yield "task", state.json()
        yield "end", {}

    return streams_of(request).respond(user.id, news())


@router.get("/{task_id}/files")
async def list_files(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """The files in a task's work folder, or those it has put out once it has ended."""
    task = await run_in_threadpool(owned_task, rt, user.id, task_id)
    return await live.list_files(rt, task)


@router.get("/{task_id}/files/last-modified")
async def last_modified(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """The file that was written to last."""
    task = await run_in_threadpool(owned_task, rt, user.id, task_id)
    return await live.last_modified(rt, task)


@router.get("/{task_id}/top")
async def top(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, str]:
    """The processes of the command that runs."""
    task = await run_in_threadpool(owned_task, rt, user.id, task_id)
    return {"text": await live.top(rt, task)}


@router.get("/{task_id}/files/tail")
async def tail(
    rt: RuntimeDep,
    user: UserDep,
    task_id: str,
    file: Annotated[list[FilePath], Query(min_length=1, max_length=limits.LIVE_MAX_FILES)],
    lines: Lines = 10,
) -> dict[str, Any]:
    """The last lines of some files."""
    task = await run_in_threadpool(owned_task, rt, user.id, task_id)
    question = LiveRequest(Ask.TAIL, tuple(dict.fromkeys(file)), lines)
    return await live.tail_once(rt, task, question)


@router.get("/{task_id}/follow")
async def follow(
    request: Request,
    rt: RuntimeDep,
    user: UserDep,
    task_id: str,
    file: Files = [],  # noqa: B006 - FastAPI copies it
    lines: Lines = 10,
    offset: Annotated[list[Offset], Query(max_length=limits.LIVE_MAX_FILES)] = [],  # noqa: B006
    attempt: AttemptNumber = 0,
    wait: bool = True,
) -> StreamingResponse:
    """Events about a task until it has ended: its status, its place in the queue, and what is added
    to some files, from before it starts and over all attempts; see `follow_task`. `offset` and
    `attempt` are where a client resumes."""
    if offset and len(offset) != len(file):
        raise Invalid("offset: one for each file, or none.")
    task = await run_in_threadpool(owned_task, rt, user.id, task_id)
    question = LiveRequest(Ask.TAIL, tuple(file), lines, True, wait, tuple(offset))
    news = follow_task(rt, task, question, attempt)
    return streams_of(request).respond(user.id, news)


@router.get("/{task_id}/files/content", response_model=None)
async def content(
    rt: RuntimeDep, user: UserDep, task_id: str, file: str
) -> StreamingResponse | JSONResponse:
    """One file as it is now, or as it was saved."""
    task = await run_in_threadpool(owned_task, rt, user.id, task_id)
    pieces = live.content(rt, task, file)
    # An error must raise here: the status code is sent before the first byte.
    first = await anext(pieces, b"")

    async def whole() -> AsyncGenerator[bytes, None]:
        yield first
        async for piece in pieces:
            yield piece

    return ClosedStream(whole(), pieces, media_type="application/octet-stream")
