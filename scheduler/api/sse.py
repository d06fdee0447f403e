"""Server-sent events: an answer that goes on (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import redis
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import OperationalError

from scheduler.services.errors import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

log = logging.getLogger(__name__)

#: Seconds after which a comment is sent where there is no news: proxies cut silent connections.
_KEEP_ALIVE_S = 15.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def stream(news: AsyncGenerator[tuple[str, dict[str, Any]], None]) -> StreamingResponse:
    """An answer of events: each a name and its fields."""
    return StreamingResponse(_lines(news), media_type="text/event-stream", headers=_HEADERS)


async def _lines(news: AsyncGenerator[tuple[str, dict[str, Any]], None]) -> AsyncIterator[str]:
    following = asyncio.ensure_future(anext(news, None))
    try:
        # So that whoever asked knows at once that it is being answered.
        yield ":\n\n"
        while True:
            done, _ = await asyncio.wait({following}, timeout=_KEEP_ALIVE_S)
            if not done:
                yield ":\n\n"
                continue
            found = following.result()
            if found is None:
                return
            name, body = found
            yield f"event: {name}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n"
            following = asyncio.ensure_future(anext(news, None))
    except (Refused, redis.RedisError, OperationalError) as error:
        # The status code is long gone. Whoever reads asks again, and is told then.
        log.warning("event=stream_broke error=%s", error)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await news.aclose()
