"""Replies to requests for the files of running attempts. Without a request there is no thread."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import redis

from executor.files.confined import CannotShow, open_file, walk
from executor.files.tail import Tail
from executor.files.top import top
from executor.link.answer import LiveAnswer, ReaderGone
from executor.link.connection import Address, connect
from executor.transfer.client import TransferFailed
from simherd.contract import limits, objects
from simherd.contract.live_frames import Ask, FrameKind, LiveRequest, Trouble
from simherd.contract.queue.keys import GroupKeys

if TYPE_CHECKING:
    from executor.attempt.context import Attempt

#: Bytes of each slice in which a file goes through object storage, and how many may lie there.
LIVE_SLICES = 2
#: Seconds after which an executor says that it still follows, where nothing is new, and after
#: which it is asked again when it did not.
LIVE_ALIVE_S = 5.0
#: Files of one machine that are fetched at one time.
LIVE_MAX_FETCHES = 2
#: Questions about live files that an executor works on at one time.
LIVE_MAX_REQUESTS = 64

log = logging.getLogger(__name__)

#: Seconds between two reads of files that are followed.
_TICK_S = 0.25
#: Threads that reply. A request that follows files holds none of them.
_THREADS = 4
#: Entries that one frame of a list carries.
_ENTRIES = 200
#: Files that are not written by the simulation.
_OURS = frozenset({objects.SYSTEM_METRICS})


class _Follower:
    """A request that follows files of one attempt."""

    def __init__(self, attempt: Attempt, request: LiveRequest, answer: LiveAnswer) -> None:
        self.key = attempt.spec.key
        self._request, self._answer = request, answer
        pairs = zip(request.files, request.offsets, strict=True)
        self._tails = [Tail(attempt.work, name, request.lines, at) for name, at in pairs]

    def look(self) -> bool:
        """Send what is new; returns False when there is nothing more to wait for. Raises
        ReaderGone, RedisError: the next call sends it again."""
        for tail in list(self._tails):
            try:
                self._read(tail)
            except CannotShow as error:
                if self._request.wait and error.trouble is Trouble.NOT_FOUND:
                    tail.from_start()
                else:
                    self._give_up(tail, error.trouble, str(error))
            except OSError as error:
                self._give_up(tail, Trouble.UNREADABLE, f"{tail.name}: {error.strerror}.")
        return bool(self._tails)

    def _read(self, tail: Tail) -> None:
        """Send the whole file; of a file that is followed, only what the reader accepts now: other
        requests wait."""
        # A whole backlog, in pieces that end with whole characters.
        for _ in range(2 * limits.LIVE_BACKLOG_BYTES // limits.LIVE_TEXT_BYTES):
            if not self._request.follow:
                self._answer.await_room()
            elif not self._answer.has_room():
                break
            piece = tail.read(to_end=not self._request.follow)
            if piece is None:
                break
            try:
                self._answer.send(FrameKind.TEXT, file=tail.name, **asdict(piece))
            except redis.RedisError:
                tail.back_to(piece)
                raise
        if not self._request.follow:
            self._tails.remove(tail)

    def _give_up(self, tail: Tail, trouble: Trouble, detail: str) -> None:
        self._answer.send(FrameKind.ERROR, file=tail.name, code=trouble.value, detail=detail)
        self._tails.remove(tail)

    def end(self, **body: Any) -> None:
        """Send that nothing more follows."""
        self._answer.send(FrameKind.END, **body)

    def fail(self) -> None:
        """Send that the request failed."""
        self._answer.fail()

    def alive(self) -> None:
        """Send a sign of life. Raises ReaderGone if the reader is gone."""
        if self._answer.has_room():
            self._answer.send(FrameKind.ALIVE)


class LiveFiles:
    """Takes requests from the inbox and replies to them on its threads."""

    def __init__(self, where: str | Address, group: str) -> None:
        self._client = connect(where)
        self._keys = GroupKeys(group)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._attempts: dict[str, Attempt] = {}
        self._followers: list[_Follower] = []
        self._following: threading.Thread | None = None
        #: Whether that thread goes on looking; it may end a moment later than it stops.
        self._looks = False
        #: How many requests are being replied to, those included that follow files.
        self.busy = self._fetches = 0
        #: Whether something waits to be sent again.
        self.waits = False
        self._pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """End all replies, and join."""
        self._closed.set()
        with self._lock:
            pool, self._pool = self._pool, None
            following = self._following
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        if following is not None:
            following.join()
        self._client.close()

    def add(self, attempt: Attempt) -> None:
        """Add an attempt whose files may be requested."""
        with self._lock:
            self._attempts[attempt.spec.key] = attempt

    def drop(self, attempt: str) -> None:
        """Remove an attempt that has ended, and end the replies about it."""
        with self._lock:
            self._attempts.pop(attempt, None)

    def ask(self, attempt: str, body: dict[str, Any]) -> None:
        """Reply to a request; returns at once. Raises ValueError if it is invalid."""
        request = LiveRequest.read(body)
        with self._lock:
            if self._closed.is_set():
                return
            if self._has_room(request):
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(_THREADS, "live")
                self._pool.submit(self._answer, attempt, request)
                self.busy += 1
                self._fetches += request.ask is Ask.FETCH
                return
        answer = LiveAnswer(self._client, self._keys.live(request.request), self._closed)
        try:
            detail = "Too many look at this machine's files just now. Try again in some seconds."
            answer.send(FrameKind.ERROR, code=Trouble.BUSY.value, detail=detail)
        except (ReaderGone, redis.RedisError) as error:
            log.info("event=live_refusal_lost attempt=%s error=%s", attempt, error)

    def _has_room(self, request: LiveRequest) -> bool:
        # A fetch blocks a thread while it waits for its reader.
        if request.ask is Ask.FETCH and self._fetches >= LIVE_MAX_FETCHES:
            return False
        return self.busy < LIVE_MAX_REQUESTS

    def _answer(self, key: str, request: LiveRequest) -> None:
        answer = LiveAnswer(self._client, self._keys.live(request.request), self._closed)
        kept = False
        try:
            # A restarted agent reads old requests again.
            answer.check()
            kept = self._try(key, request, answer)
        except ReaderGone:
            log.info("event=live_reader_gone attempt=%s", key)
        except redis.RedisError as error:
            log.warning("event=live_answer_lost attempt=%s error=%s", key, error)
        except Exception:
            # A failed request must not end the attempt.
            log.exception("event=live_answer_broke attempt=%s", key)
            answer.fail()
        finally:
            if not kept:
                self._done()
            if request.ask is Ask.FETCH:
                with self._lock:
                    self._fetches -= 1

    def _done(self) -> None:
        with self._lock:
            self.busy -= 1

    def _try(self, key: str, request: LiveRequest, answer: LiveAnswer) -> bool:
        """Reply; returns True if the request goes on to follow files."""
        with self._lock:
            attempt = self._attempts.get(key)
        if attempt is None:
            answer.send(FrameKind.END, over=True)
            return False
        if request.ask is Ask.TAIL:
            return self._tail(attempt, request, answer)
        try:
            match request.ask:
                case Ask.LIST:
                    _list(attempt, answer)
                case Ask.LAST_MODIFIED:
                    _last_modified(attempt, answer)
                case Ask.TOP:
                    _top(attempt, answer, self._closed)
                case Ask.FETCH:
                    _fetch(attempt, request, answer)
        except CannotShow as error:
            answer.send(FrameKind.ERROR, code=error.trouble.value, detail=str(error))
        except (OSError, TransferFailed) as error:
            answer.send(FrameKind.ERROR, code=Trouble.UNREADABLE.value, detail=str(error))
        return False

    def _tail(self, attempt: Attempt, request: LiveRequest, answer: LiveAnswer) -> bool:
        follower = _Follower(attempt, request, answer)
        try:
            goes_on = follower.look()
        except redis.RedisError:
            if not request.follow:
                raise
            goes_on = True
        if not goes_on:
            follower.end()
            return False
        with self._lock:
            self._followers.append(follower)
            if not self._looks and not self._closed.is_set():
                self._looks = True
                self._following = threading.Thread(target=self._follow, name="live-follow")
                self._following.start()
        return True

    def _follow(self) -> None:
        """Serve all requests that follow files, until none is left."""
        for turn in itertools.count():
            self._closed.wait(_TICK_S)
            with self._lock:
                followers = list(self._followers)
                if not followers or self._closed.is_set():
                    self._looks = False
                    return
            gone = [f for f in followers if not self._serve(f, turn)]
            with self._lock:
                self._followers = [f for f in self._followers if f not in gone]
                self.busy -= len(gone)

    def _serve(self, follower: _Follower, turn: int) -> bool:
        with self._lock:
            runs = follower.key in self._attempts
        try:
            if runs and follower.look():
                self.waits = False
                # If nothing is written for hours, only this shows whether the reader is gone.
                if turn % round(LIVE_ALIVE_S / _TICK_S) == 0:
                    follower.alive()
                return True
            follower.end(over=not runs)
        except ReaderGone:
            log.info("event=live_reader_gone attempt=%s", follower.key)
        except redis.RedisError as error:
            log.warning("event=live_answer_waits attempt=%s error=%s", follower.key, error)
            self.waits = True
            return True
        except Exception:
            log.exception("event=live_answer_broke attempt=%s", follower.key)
            follower.fail()
        return False


def _list(attempt: Attempt, answer: LiveAnswer) -> None:
    left = limits.LIVE_MAX_ENTRIES
    entries = walk(attempt.work, left + 1)
    while left > 0:
        some = list(itertools.islice(entries, min(_ENTRIES, left)))
        if not some:
            break
        left -= len(some)
        answer.await_room()
        answer.send(FrameKind.ENTRIES, entries=[asdict(entry) for entry in some])
    answer.send(FrameKind.END, truncated=next(entries, None) is not None)


def _last_modified(attempt: Attempt, answer: LiveAnswer) -> None:
    files = (e for e in walk(attempt.work) if e.kind.value == "file" and e.name not in _OURS)
    newest = max(files, key=lambda e: e.modified_at, default=None)
    if newest is None:
        raise CannotShow(Trouble.NOT_FOUND, "There is no file yet.")
    answer.send(FrameKind.FILE, entry=asdict(newest))
    answer.send(FrameKind.END)


def _top(attempt: Attempt, answer: LiveAnswer, closed: threading.Event) -> None:
    running = attempt.state.running
    pids = running.processes() if running is not None else []
    if not pids:
        raise CannotShow(Trouble.NOT_RUNNING, "No command of the task runs just now.")
    answer.send(FrameKind.TOP, text=top(pids, closed.wait))
    answer.send(FrameKind.END)


def _fetch(attempt: Attempt, request: LiveRequest, answer: LiveAnswer) -> None:
    """Store the file as it is now in slices; the reader fetches and removes each."""
    digest, number = hashlib.sha256(), 0
    grant, prefix = attempt.spec.grant, f"{objects.LIVE_SLICE}{request.request}/"
    with open_file(attempt.work, request.files[0] if request.files else "") as file:
        left = file.seek(0, 2)
        file.seek(0)
        try:
            while left and (data := file.read(min(left, limits.LIVE_SLICE_BYTES))):
                answer.await_room(LIVE_SLICES)
                left -= len(data)
                digest.update(data)
                name = f"{prefix}{number}"
                url = attempt.transfer.urls(grant, [name])[name]
                attempt.transfer.put(grant, name, url, data)
                number += 1
                answer.send(FrameKind.SLICE, number=number - 1, size=len(data))
        except ReaderGone:
            # Remove the slices that the reader did not fetch.
            for kept in range(max(0, number - LIVE_SLICES - 1), number):
                attempt.transfer.drop(grant, f"{prefix}{kept}")
            raise
    answer.send(FrameKind.END, sha256=digest.hexdigest())
