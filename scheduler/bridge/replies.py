"""Replies to requests over a data channel, from the same services as those over HTTP."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

import redis
from sqlalchemy.exc import OperationalError

from scheduler.bridge.formats import Lines, cut, in_messages, last_message, tree
from scheduler.services.errors import ServiceError
from scheduler.services.watch import live
from scheduler.services.watch.follow import follow_task
from simherd.contract.live_frames import Ask, LiveRequest, Trouble
from simherd.contract.webrtc_channel import Reply, ReplyStatus, RequestKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Any

    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime
    from simherd.contract.webrtc_channel import ChannelRequest

log = logging.getLogger(__name__)


async def replies(
    rt: Runtime, task: TaskRow, request: ChannelRequest, most: int
) -> AsyncGenerator[Reply, None]:
    """Yield the replies to a request, in messages of at most `most` bytes.
    One reply; for a request that follows a file, more until the task has ended or an error."""
    try:
        if request.wanted is RequestKind.TAIL and request.follow:
            async with aclosing(_follow(rt, task, request, most)) as messages:
                async for reply in messages:
                    yield reply
        else:
            yield await _once(rt, task, request, most)
    except ServiceError as error:
        yield _error(str(error))
    except (redis.RedisError, OperationalError) as error:
        log.warning("event=bridge_reply_failed task=%s error=%s", task.id, error)
        yield _error("A part that this needs is out of reach just now. Try again in some seconds.")


def _success(message: Any) -> Reply:
    return Reply(ReplyStatus.SUCCESS, message)


def _error(sentence: str) -> Reply:
    # The client prints it as it is.
    return Reply(ReplyStatus.ERROR, f"{sentence}\n")


async def _once(rt: Runtime, task: TaskRow, request: ChannelRequest, most: int) -> Reply:
    match request.wanted:
        case RequestKind.LIST:
            listing = await live.list_files(rt, task)
            return _success(tree(listing["entries"], most, truncated=listing["truncated"]))
        case RequestKind.TOP:
            return _success(cut(await live.top(rt, task), most))
        case RequestKind.LAST_MODIFIED:
            return _success(_last_modified(await live.last_modified(rt, task)))
        case RequestKind.TAIL:
            return await _tail(rt, task, request, most)


def _last_modified(newest: dict[str, Any]) -> dict[str, Any]:
    entry, now = newest["entry"], newest["now"]
    return {
        "most_recent_file": entry["name"],
        "most_recent_timestamp": entry["modified_at"],
        "now_timestamp": now,
        # The two come from different clocks.
        "time_since_last_mod": max(0.0, now - entry["modified_at"]),
    }


async def _tail(rt: Runtime, task: TaskRow, request: ChannelRequest, most: int) -> Reply:
    row = await _last_lines(rt, task, request)
    if request.wait and row.get("code") == Trouble.NOT_FOUND.value:
        await _something_written(rt, task, request)
        row = await _last_lines(rt, task, request)
    if "code" in row:
        return _error(row["detail"])
    lines = Lines()
    return _success(last_message([*lines.add(row), *lines.rest()], most))


async def _last_lines(rt: Runtime, task: TaskRow, request: ChannelRequest) -> dict[str, Any]:
    question = LiveRequest(Ask.TAIL, (request.file,), request.lines)
    row: dict[str, Any] = (await live.tail_once(rt, task, question))["files"][0]
    return row


async def _something_written(rt: Runtime, task: TaskRow, request: ChannelRequest) -> None:
    """Wait until there is something in a file, or the task has ended."""
    question = LiveRequest(Ask.TAIL, (request.file,), request.lines, follow=True, wait=True)
    async with aclosing(follow_task(rt, task, question, 0)) as news:
        async for name, _ in news:
            if name in {"text", "error"}:
                return


async def _follow(
    rt: Runtime, task: TaskRow, request: ChannelRequest, most: int
) -> AsyncGenerator[Reply, None]:
    question = LiveRequest(Ask.TAIL, (request.file,), request.lines, follow=True, wait=request.wait)
    lines = Lines()
    async with aclosing(follow_task(rt, task, question, 0)) as news:
        async for name, body in news:
            if name == "error":
                yield _error(body["detail"])
                return
            if name == "text":
                for some in in_messages(lines.add(body), most):
                    yield _success(some)
    if rest := lines.rest():
        yield _success(rest)
