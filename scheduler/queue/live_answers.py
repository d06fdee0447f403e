"""Reading what executors answer about live files, and hearing which tasks have changed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import secrets
import time
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from scheduler.queue.live_frames import BadFrame, read_frame
from simherd.contract import limits
from simherd.contract.live_frames import FIELD, Frame, FrameKind
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import CHANGES, GroupKeys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable

    from scheduler.queue.dropped_input import DroppedInput
    from scheduler.queue.servers import Servers

log = logging.getLogger(__name__)

#: Bytes of frames that are read at a time.
_READ_BYTES = 4 * 1024**2
#: Seconds one read for a frame waits.
_WAIT_S = 1.0
#: Seconds between two tries to listen while Redis is out of reach.
_RETRY_S = 1.0
#: Seconds after which a call has been lost, whatever the client library still waits for: longer
#: than its own timeouts and tries.
_LOST_S = 45.0
#: Seconds for which a Redis that did not answer is told of no changes.
_QUIET_S = 5.0
#: Seconds in which the first listener is heard.
_LISTENING_S = 2.0


def connect_async(url: str) -> redis.asyncio.Redis:
    """A client for an event loop, with bounded waits."""
    return redis.asyncio.Redis.from_url(
        url,
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=5,
        socket_timeout=5 + _WAIT_S,
        socket_keepalive=True,
        health_check_interval=25,
    )


async def _answered(call: Awaitable[Any]) -> Any:
    """What a call answers. Raises RedisError: also where it would wait for ever."""
    try:
        async with asyncio.timeout(_LOST_S):
            return await call
    except TimeoutError as error:
        raise redis.TimeoutError(f"Redis has not answered for {_LOST_S:.0f} s.") from error


class Dropped(Protocol):
    """Hears why something that a machine wrote is left out."""

    def __call__(self, detail: object) -> None:
        """See `DroppedInput.note`."""


class StreamGone(Exception):
    """The stream of an answer is not there any more: nothing more will come."""


class LiveAnswers:
    """Streams for answers: each is there as long as somebody reads it."""

    def __init__(self, servers: Servers[redis.asyncio.Redis], dropped: DroppedInput) -> None:
        self._servers = servers
        self._dropped = dropped

    @contextlib.asynccontextmanager
    async def opened(self, group: str) -> AsyncIterator[Reading]:
        """A stream for one answer from an executor of the group."""
        request = secrets.token_hex(16)
        # Aside: a group that is not known yet is looked up in SQL.
        client = await asyncio.to_thread(self._servers.of, group)
        dropped = functools.partial(self._dropped.note, group, "frame")
        reading = Reading(client, GroupKeys(group).live(request), request, dropped)
        await reading.begin()
        # Not by the reading itself: whoever reads slowly has not gone.
        keeping = asyncio.create_task(reading.keep())
        try:
            yield reading
        finally:
            keeping.cancel()
            await asyncio.shield(reading.end())


class Reading:
    """One answer, frame by frame."""

    def __init__(
        self, client: redis.asyncio.Redis, key: str, request: str, dropped: Dropped
    ) -> None:
        """`dropped` is called with what the machine wrote and cannot be, and why."""
        self._client, self._key = client, key
        self._dropped = dropped
        self._read = client.register_script(scripts.source("read_stream"))
        #: What the executor is told.
        self.request = request

    async def begin(self) -> None:
        """Make the stream."""
        opening: dict[Any, Any] = {FIELD: Frame(FrameKind.OPEN, {}).encode()}
        await _answered(self._client.xadd(self._key, opening))
        await self._keep()

    async def end(self) -> None:
        """Remove it: the executor stops."""
        with contextlib.suppress(redis.RedisError):
            await _answered(self._client.delete(self._key))

    async def keep(self) -> None:
        """Keep the stream while somebody reads."""
        while True:
            await asyncio.sleep(limits.LIVE_KEEP_S / 3)
            with contextlib.suppress(redis.RedisError):
                await self._keep()

    async def _keep(self) -> None:
        await _answered(self._client.expire(self._key, int(limits.LIVE_KEEP_S)))

    async def frames(self) -> AsyncIterator[Frame | None]:
        """The frames as they come; None now and then while none does.

        Raises:
            StreamGone: Redis has lost the stream, and the executor with it.
            BadFrame: what the machine wrote is not an answer.
        """
        after = "0-0"
        while True:
            entries = await self._entries(after)
            for entry, text in entries:
                after = entry
                frame = self._frame(text)
                if frame.kind is not FrameKind.OPEN:
                    yield frame
                # Not before it was used: what waits here is what the executor waits for.
                await _answered(self._client.xdel(self._key, entry))
            if not entries:
                if not await _answered(self._client.exists(self._key)):
                    raise StreamGone
                yield None

    async def _entries(self, after: str) -> list[tuple[str, str | None]]:
        """What came after an entry, once something has; None for a frame that is too long."""
        # One entry says that there is something: the machine chooses how long they are.
        found: Any = await _answered(
            self._client.xread({self._key: after}, count=1, block=int(_WAIT_S * 1000))
        )
        if not found:
            return []
        args: list[str | int] = [after, limits.LIVE_WINDOW, _READ_BYTES, FIELD]
        args.append(limits.MAX_FRAME_BYTES)
        rows: Any = await _answered(self._read(keys=[self._key], args=args))
        return [(entry, text) for entry, text in rows]

    def _frame(self, text: str | None) -> Frame:
        if text is None:
            self._dropped("a frame that is too long")
            raise BadFrame(f"a frame of more than {limits.MAX_FRAME_BYTES} bytes")
        try:
            return read_frame(text)
        except BadFrame as error:
            self._dropped(str(error))
            raise


class Announcer:
    """Says which tasks have changed. What gets lost costs those who wait some seconds, so a Redis
    that does not answer is soon left alone: every commit comes by here."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        self._quiet_until = 0.0

    def tell(self, tasks: Iterable[str]) -> None:
        """These have changed."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            self._client.publish(CHANGES, json.dumps(sorted(tasks)))
        except redis.RedisError as error:
            self._quiet_until = time.monotonic() + _QUIET_S
            log.warning("event=change_not_announced error=%s", error)


class Listener:
    """Somebody who waits for changes of some tasks."""

    def __init__(self, tasks: frozenset[str]) -> None:
        self.tasks = tasks
        self._changed: set[str] = set()
        self._woken = asyncio.Event()

    def tell(self, tasks: Iterable[str]) -> None:
        """These have changed."""
        self._changed.update(tasks)
        self._woken.set()

    async def wait(self, timeout_s: float) -> set[str]:
        """The tasks that have changed; none when the time passed first: look at all then."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), timeout_s)
        self._woken.clear()
        changed, self._changed = self._changed, set()
        return changed


class Changes:
    """Hears of changes while somebody listens, over one connection."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._listeners: dict[str, set[Listener]] = {}
        self._subscribed = asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def listening(self, tasks: frozenset[str]) -> AsyncIterator[Listener]:
        """Hear of changes of these tasks: of all that come after this began."""
        listener = Listener(tasks)
        for task in tasks:
            self._listeners.setdefault(task, set()).add(listener)
        try:
            if self._hearing is None:
                self._subscribed.clear()
                # It serves others as well: the log of this request is not its own.
                self._hearing = asyncio.create_task(self._hear(), context=Context())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._subscribed.wait(), _LISTENING_S)
            yield listener
        finally:
            self._forget(listener)

    def _forget(self, listener: Listener) -> None:
        for task in listener.tasks:
            rest = self._listeners.get(task, set())
            rest.discard(listener)
            if not rest:
                self._listeners.pop(task, None)
        if not self._listeners and self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None

    async def _hear(self) -> None:
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=False) as heard:
                    await heard.subscribe(CHANGES)
                    await self._listen(heard)
            except (redis.RedisError, OSError) as error:
                log.warning("event=changes_not_heard error=%s", error)
            except Exception:
                # Else everybody who waits would hear of nothing any more.
                log.exception("event=hearing_broke")
            await asyncio.sleep(_RETRY_S)

    async def _listen(self, heard: Any) -> None:
        quiet_since = time.monotonic()
        while True:
            message = await heard.get_message(timeout=_WAIT_S)
            if message is None:
                # A connection that died without a word would stay so for ever.
                if time.monotonic() - quiet_since > 25:
                    await heard.ping()
                    quiet_since = time.monotonic()
                continue
            quiet_since = time.monotonic()
            if message["type"] == "subscribe":
                self._subscribed.set()
                # What changed before, while nobody heard, is not known.
                self._tell(list(self._listeners))
            elif message["type"] == "message":
                self._tell(json.loads(message["data"]))

    def _tell(self, tasks: list[str]) -> None:
        for task in tasks:
            for listener in self._listeners.get(task, ()):
                listener.tell((task,))
