"""The thread that polls: what it calls back with, and that nothing ends it."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

import pytest

from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.watch import NoticeWatch

if TYPE_CHECKING:
    from collections.abc import Iterator


class Source:
    """Returns what is put in; polls wait for it."""

    name = "scripted"
    every_s = 0.0

    def __init__(self) -> None:
        self.results: queue.SimpleQueue[ReclaimNotice | Exception | None] = queue.SimpleQueue()
        self.is_closed = threading.Event()

    def poll(self) -> ReclaimNotice | None:
        result = self.results.get()
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        self.is_closed.set()


class Watched:
    def __init__(self, *, fails: bool = False) -> None:
        self.source = Source()
        self.notices: queue.SimpleQueue[ReclaimNotice] = queue.SimpleQueue()
        self.fails = fails
        self.watch = NoticeWatch(self.source, self._notify, lambda: None)

    def _notify(self, notice: ReclaimNotice) -> None:
        self.notices.put(notice)
        if self.fails:
            raise RuntimeError("a bug of the agent")


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    watched.watch.start()
    yield watched
    watched.source.results.put(None)
    watched.watch.close()
    assert watched.source.is_closed.wait(30)


def notice(in_s: float) -> ReclaimNotice:
    return ReclaimNotice(time.time() + in_s, "scripted")


def test_a_notice_is_passed_on_once_and_an_earlier_one_again(watched: Watched) -> None:
    first, earlier = notice(120), notice(30)
    for result in (None, first, first, earlier):
        watched.source.results.put(result)
    assert watched.notices.get(timeout=30) == first
    assert watched.notices.get(timeout=30) == earlier
    assert watched.notices.empty()


@pytest.mark.parametrize(
    "error", [SourceError("500"), ValueError("a bug"), RecursionError(), OSError("broken")]
)
def test_no_error_of_a_source_ends_the_watch(watched: Watched, error: Exception) -> None:
    seen = notice(30)
    watched.source.results.put(error)
    watched.source.results.put(seen)
    assert watched.notices.get(timeout=30) == seen
    assert not watched.watch.failing
    assert watched.watch.silent_s < 60


def test_a_callback_that_fails_does_not_end_the_watch() -> None:
    watched = Watched(fails=True)
    watched.watch.start()
    first, earlier = notice(120), notice(30)
    for result in (first, earlier):
        watched.source.results.put(result)
    assert watched.notices.get(timeout=30) == first
    assert watched.notices.get(timeout=30) == earlier
    watched.source.results.put(None)
    watched.watch.close()


def test_a_watch_that_was_never_started_closes_its_source() -> None:
    watched = Watched()
    watched.watch.close()
    assert watched.source.is_closed.is_set()
