"""Reading the replies of executors about live files, and listening for changes of tasks."""

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

#: Seconds for which an answer about live files is kept for a reader who does not come back.
LIVE_KEEP_S = 30.0
#: Longest frame of a live answer, bytes: what Redis takes at once, see `REDIS_BULK_BYTES`.
MAX_FRAME_BYTES = 4 * 1024**2

log = logging.getLogger(__name__)

#: Bytes of frames that are read at a time.
_READ_BYTES = 4 * 1024**2
#: Seconds one read for a frame waits.
_WAIT_S = 1.0
#: Seconds between two tries to listen while Redis is unreachable.
_RETRY_S = 1.0
#: Seconds after which a call is given up: longer than the timeouts and retries of the library.
_LOST_S = 45.0
#: Seconds without announcements after Redis did not respond.
_QUIET_S = 5.0
#: Seconds for which the first listener waits for its subscription.
_LISTENING_S = 2.0


def connect_async(url: str) -> redis.asyncio.Redis:
    """Return a client for an event loop, with bounded waits."""
    return redis.asyncio.Redis.from_url(
        url,
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=5,
        socket_timeout=5 + _WAIT_S,
        socket_keepalive=True,
        health_check_interval=25,
    )


async def _bounded(call: Awaitable[Any]) -> Any:
    """Return a call's result. Raises RedisError, also where it would wait for ever."""
    try:
        async with asyncio.timeout(_LOST_S):
            return await call
    except TimeoutError as error:
        raise redis.TimeoutError(f"Redis has not responded for {_LOST_S:.0f} s.") from error


class Dropped(Protocol):
    """Counts input of a machine that is left out."""

    def __call__(self, detail: object) -> None:
        """See `DroppedInput.count`."""


class StreamGone(Exception):
    """The stream of a reply no longer exists: nothing more will come."""


class LiveAnswers:
    """Streams for replies: each exists as long as it is read."""

    def __init__(self, servers: Servers[redis.asyncio.Redis], dropped: DroppedInput) -> None:
        self._servers = servers
        self._dropped = dropped

    @contextlib.asynccontextmanager
    async def opened(self, group: str) -> AsyncIterator[Reading]:
        """Open a stream for one reply from an executor of the group."""
        request = secrets.token_hex(16)
        # In a thread: a group that is not known yet is looked up in SQL.
        client = await asyncio.to_thread(self._servers.of, group)
        dropped = functools.partial(self._dropped.count, group, "frame")
        reading = Reading(client, GroupKeys(group).live(request), request, dropped)
        await reading.begin()
        # In a task: a slow reader is still a reader.
        keeping = asyncio.create_task(reading.keep())
        try:
            yield reading
        finally:
            keeping.cancel()
            await asyncio.shield(reading.end())


class Reading:
    """One reply, frame by frame."""

    def __init__(
        self, client: redis.asyncio.Redis, key: str, request: str, dropped: Dropped
    ) -> None:
        """`dropped` is called for each invalid frame, with the reason."""
        self._client, self._key = client, key
        self._dropped = dropped
        self._read = client.register_script(scripts.source("read_stream"))
        #: The request's id, which the executor gets.
        self.request = request

    async def begin(self) -> None:
        """Create the stream."""
        opening: dict[Any, Any] = {FIELD: Frame(FrameKind.OPEN, {}).encode()}
        await _bounded(self._client.xadd(self._key, opening))
        await self._keep()

    async def end(self) -> None:
        """Delete the stream, which makes the executor stop."""
        with contextlib.suppress(redis.RedisError):
            await _bounded(self._client.delete(self._key))

    async def keep(self) -> None:
        """Extend the stream's life until cancelled."""
        while True:
            await asyncio.sleep(LIVE_KEEP_S / 3)
            with contextlib.suppress(redis.RedisError):
                await self._keep()

    async def _keep(self) -> None:
        await _bounded(self._client.expire(self._key, int(LIVE_KEEP_S)))

    async def frames(self) -> AsyncIterator[Frame | None]:
        """Yield the frames as they come, and None now and then while there are none.

        Raises:
            StreamGone: Redis has lost the stream, and the executor with it.
            BadFrame: the machine wrote something else.
        """
        after = "0-0"
        while True:
            entries = await self._entries(after)
            for entry, text in entries:
                after = entry
                frame = self._frame(text)
                if frame.kind is not FrameKind.OPEN:
                    yield frame
                # After its use: the executor waits until there is room in the stream.
                await _bounded(self._client.xdel(self._key, entry))
            if not entries:
                if not await _bounded(self._client.exists(self._key)):
                    raise StreamGone
                yield None

    async def _entries(self, after: str) -> list[tuple[str, str | None]]:
        """Wait for entries after `after`; the text of a frame that is too long is None."""
        # One entry is enough to see that there are some: the machine chooses their length.
        ready: Any = await _bounded(
            self._client.xread({self._key: after}, count=1, block=int(_WAIT_S * 1000))
        )
        if not ready:
            return []
        args: list[str | int] = [after, limits.LIVE_WINDOW, _READ_BYTES, FIELD]
        args.append(MAX_FRAME_BYTES)
        rows: Any = await _bounded(self._read(keys=[self._key], args=args))
        return [(entry, text) for entry, text in rows]

    def _frame(self, text: str | None) -> Frame:
        if text is None:
            self._dropped("a frame that is too long")
            raise BadFrame(f"a frame of more than {MAX_FRAME_BYTES} bytes")
        try:
            return read_frame(text)
        except BadFrame as error:
            self._dropped(str(error))
            raise


class Announcer:
    """Publishes which tasks have changed, after every commit.

    A lost message costs listeners some seconds, so nothing is published for a while after Redis did
    not respond.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        self._quiet_until = 0.0

    def publish(self, tasks: Iterable[str]) -> None:
        """Announce that these tasks have changed."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            self._client.publish(CHANGES, json.dumps(sorted(tasks)))
        except redis.RedisError as error:
            self._quiet_until = time.monotonic() + _QUIET_S
            log.warning("event=change_not_announced error=%s", error)


class Listener:
    """Waits for changes of some tasks."""

    def __init__(self, tasks: frozenset[str]) -> None:
        self.tasks = tasks
        self._changed: set[str] = set()
        self._woken = asyncio.Event()

    def notify(self, tasks: Iterable[str]) -> None:
        """Wake the listener: these tasks have changed."""
        self._changed.update(tasks)
        self._woken.set()

    async def wait(self, timeout_s: float) -> set[str]:
        """Return the tasks that have changed; none after a timeout, when all should be read."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), timeout_s)
        self._woken.clear()
        changed, self._changed = self._changed, set()
        return changed


class Changes:
    """Passes changes of tasks on to listeners, over one connection."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._listeners: dict[str, set[Listener]] = {}
        self._subscribed = asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def listening(self, tasks: frozenset[str]) -> AsyncIterator[Listener]:
        """Listen for the changes of these tasks from now on."""
        listener = Listener(tasks)
        for task in tasks:
            self._listeners.setdefault(task, set()).add(listener)
        try:
            if self._hearing is None:
                self._subscribed.clear()
                # It serves other requests too, and must not log under the id of this one.
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
                async with self._client.pubsub(ignore_subscribe_messages=False) as subscription:
                    await subscription.subscribe(CHANGES)
                    await self._listen(subscription)
            except (redis.RedisError, OSError) as error:
                log.warning("event=changes_not_heard error=%s", error)
            except Exception:
                # Without this task no listener would get a change again.
                log.exception("event=hearing_broke")
            await asyncio.sleep(_RETRY_S)

    async def _listen(self, subscription: Any) -> None:
        quiet_since = time.monotonic()
        while True:
            message = await subscription.get_message(timeout=_WAIT_S)
            if message is None:
                # A connection that died silently would never be noticed.
                if time.monotonic() - quiet_since > 25:
                    await subscription.ping()
                    quiet_since = time.monotonic()
                continue
            quiet_since = time.monotonic()
            if message["type"] == "subscribe":
                self._subscribed.set()
                # Changes before the subscription are unknown: all tasks are to be read.
                self._notify(list(self._listeners))
            elif message["type"] == "message":
                self._notify(json.loads(message["data"]))

    def _notify(self, tasks: list[str]) -> None:
        for task in tasks:
            for listener in self._listeners.get(task, ()):
                listener.notify((task,))
