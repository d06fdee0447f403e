"""The thread that looks for spot notices, with real files and a real server that hangs."""

from __future__ import annotations

import json
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from executor.spot.aws import AwsSource
from executor.spot.http import LOOK_S
from executor.spot.notice import ReclaimNotice
from executor.spot.simple import FileSource
from executor.spot.watch import NoticeWatch
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from executor.spot.notice import NoticeSource
    from tests.support.metadata import Metadata

#: Looks that hang take the seconds that they may.
pytestmark = pytest.mark.slow

#: Seconds beyond a limit that a busy test machine may take.
SLACK_S = 15.0
ACTION = "/latest/meta-data/spot/instance-action"


class Heard:
    """What a watch has called."""

    def __init__(self) -> None:
        self.notices: list[ReclaimNotice] = []
        self.overs = threading.Event()

    def watch(self, source: NoticeSource) -> NoticeWatch:
        return NoticeWatch(source, self.notices.append, self.overs.set)


def _has(notices: list[ReclaimNotice], count: int) -> bool:
    return len(notices) == count


def test_a_watch_tells_of_a_file_once_and_of_an_earlier_deadline(tmp_path: Path) -> None:
    path, heard = tmp_path / "notice", Heard()
    source = FileSource(path)
    source.every_s = 0.01
    watch = heard.watch(source)
    watch.start()
    soon = time.time() + 100
    for n, reclaim_at in enumerate((soon, soon - 50), start=1):
        (tmp_path / "new").write_text(json.dumps({"reclaim_at": reclaim_at}))
        (tmp_path / "new").replace(path)
        until(partial(_has, heard.notices, n), what="the notice")
    watch.close()
    assert heard.notices == [
        ReclaimNotice(soon, source.name),
        ReclaimNotice(soon - 50, source.name),
    ]
    assert not heard.overs.is_set()
    assert watch.silent_s < 60
    assert not watch.failing
    watch.close()


def test_a_watch_says_when_a_notice_came_to_nothing(tmp_path: Path) -> None:
    path, heard = tmp_path / "notice", Heard()
    source = FileSource(path)
    source.every_s = 0.01
    # Of the 60 s that it is waited for after its time, three are left.
    path.write_text(json.dumps({"reclaim_at": time.time() - 57}))
    watch = heard.watch(source)
    watch.start()
    until(heard.overs.is_set, what="the end of the notice")
    watch.close()
    assert len(heard.notices) == 1


def test_a_watch_goes_on_after_errors_and_broken_callbacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "notice"
    source = FileSource(path)
    source.every_s = 0.01
    called: list[ReclaimNotice] = []

    def broken(notice: ReclaimNotice) -> None:
        called.append(notice)
        raise RuntimeError("on purpose")

    watch = NoticeWatch(source, broken, lambda: None)
    path.write_text("{")
    watch.start()
    until(lambda: "event=spot_source_failed" in caplog.text, what="the error")
    for n, in_s in enumerate((100, 50), start=1):
        (tmp_path / "new").write_text(json.dumps({"in_s": in_s}))
        (tmp_path / "new").replace(path)
        until(partial(_has, called, n), what="the notice")
    watch.close()
    for word in ("event=spot_source_failed", "event=spot_source_back"):
        assert caplog.text.count(word) == 1
    assert caplog.text.count("event=spot_callback_broke") == 2


class _Buggy:
    name, every_s = "buggy", 0.01

    def __init__(self) -> None:
        self.looks = self.closed = 0

    def poll(self) -> ReclaimNotice | None:
        self.looks += 1
        raise KeyError("on purpose")

    def close(self) -> None:
        self.closed += 1


def test_a_watch_survives_a_source_with_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    source = _Buggy()
    watch = Heard().watch(source)
    watch.start()
    until(lambda: source.looks > 3, what="more looks")
    watch.close()
    assert source.closed == 1
    assert caplog.text.count("event=spot_source_failed") == 1
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("fault", ["hang", "dribble"])
def test_a_watch_closes_while_a_look_hangs(said: Metadata, fault: str) -> None:
    said.faults[ACTION] = fault
    watch = Heard().watch(AwsSource(said.url))
    watch.start()
    until(lambda: said.count(f"GET {ACTION}"), what="a look")
    began = time.monotonic()
    watch.close()
    assert time.monotonic() - began < LOOK_S + SLACK_S
    until(
        lambda: not any(thread.name == "spot" for thread in threading.enumerate()),
        what="the thread's end",
    )


def test_a_watch_that_was_not_started_closes_its_source() -> None:
    source = _Buggy()
    Heard().watch(source).close()
    assert (source.looks, source.closed) == (0, 1)
