"""Server-sent events: a response that goes on (WHATWG HTML, section 9.2).

A reader may disconnect at any moment. What its response holds is released then, not when the
garbage collector runs, because it keeps machines busy.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import redis
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import OperationalError

from scheduler.services.errors import ServiceError, TooManyRequests

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from starlette.types import Receive, Scope, Send

#: Connections over which one user follows or waits, to one API process.
MAX_STREAMS = 256

log = logging.getLogger(__name__)

#: Seconds after which a comment is sent where there is no news: proxies cut silent connections.
_KEEP_ALIVE_S = 15.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


#: Closing tasks that are under way: asyncio keeps no reference to them.
_ending: set[asyncio.Task[None]] = set()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await something that goes on even if the awaiting task is cancelled."""
    task = asyncio.create_task(work)
    _ending.add(task)
    task.add_done_callback(_ending.discard)
    await asyncio.shield(task)


class ClosedStream(StreamingResponse):
    """A response whose generators are closed when it ends."""

    def __init__(self, pieces: AsyncGenerator[Any, None], *sources: Any, **more: Any) -> None:
        """`sources`: generators that it takes from, closed with it: one that nobody has begun to
        read could not do so itself."""
        super().__init__(pieces, **more)
        self._generators = (pieces, *sources)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await _to_the_end(self._close())

    async def _close(self) -> None:
        for generator in self._generators:
            await generator.aclose()


class Streams:
    """The answers that go on in this process. Each has a connection to Redis and a user's own
    share: who asks for thousands holds up nobody else."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def respond(
        self, user_id: str, news: AsyncGenerator[tuple[str, dict[str, Any]], None]
    ) -> StreamingResponse:
        """Return a response of events: each a name and its fields.
        Raises Busy: the user has as many as may be."""
        if self._open[user_id] >= MAX_STREAMS:
            raise TooManyRequests(
                f"You follow or wait for tasks over {MAX_STREAMS} connections already. "
                "One connection waits for many tasks: POST /v1/tasks/changes."
            )
        lines = self._counted(user_id, news)
        return ClosedStream(lines, media_type="text/event-stream", headers=_HEADERS)

    async def _counted(
        self, user_id: str, news: AsyncGenerator[tuple[str, dict[str, Any]], None]
    ) -> AsyncGenerator[str, None]:
        self._open[user_id] += 1
        try:
            async with aclosing(_lines(news)) as lines:
                async for line in lines:
                    yield line
        finally:
            self._open[user_id] -= 1
            if not self._open[user_id]:
                del self._open[user_id]


async def _lines(
    news: AsyncGenerator[tuple[str, dict[str, Any]], None],
) -> AsyncGenerator[str, None]:
    following = asyncio.ensure_future(anext(news, None))
    try:
        # So that the client knows at once that the response has begun.
        yield ":\n\n"
        while True:
            done, _ = await asyncio.wait({following}, timeout=_KEEP_ALIVE_S)
            if not done:
                yield ":\n\n"
                continue
            piece = following.result()
            if piece is None:
                return
            name, body = piece
            yield f"event: {name}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n"
            following = asyncio.ensure_future(anext(news, None))
    except (ServiceError, redis.RedisError, OperationalError) as error:
        # The status code is already sent. The client reconnects, and gets the error then.
        log.warning("event=stream_broke error=%s", error)
    finally:
        await _to_the_end(_close(following, news))


async def _close(following: asyncio.Future[Any], news: AsyncGenerator[Any, None]) -> None:
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await news.aclose()
