"""Answers about live files: sent as fast as they are read, and no longer than that."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import redis

from executor.agent.live_files import LIVE_MAX_FETCHES, LIVE_MAX_REQUESTS, LiveFiles
from simherd.contract import limits
from simherd.contract.live_frames import FIELD, Ask, LiveRequest
from simherd.contract.queue.keys import GroupKeys
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = GroupKeys("g-live")


class Reader:
    """Somebody who asks, and reads when a test says so."""

    def __init__(self, url: str, number: int = 1) -> None:
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self.request = f"{number:032x}"
        self.key = KEYS.live(self.request)
        self.client.delete(self.key)
        self.client.xadd(self.key, {FIELD: '{"kind":"open"}'})

    def request_for(self, ask: Ask, *files: str, **more: Any) -> dict[str, Any]:
        return LiveRequest(
            ask, files, offsets=(-1,) * len(files), request=self.request, **more
        ).body()

    @property
    def waiting(self) -> int:
        found: Any = self.client.xlen(self.key)
        return int(found)

    def take(self) -> list[dict[str, Any]]:
        """All that waits; afterwards it is gone."""
        entries: Any = self.client.xrange(self.key)
        if entries:
            self.client.xdel(self.key, *(entry for entry, _ in entries))
        return [json.loads(fields[FIELD]) for _, fields in entries]


@pytest.fixture
def live(redis_url: str, tmp_path: Path) -> Iterator[LiveFiles]:
    made = LiveFiles(redis_url, "g-live")
    attempt: Any = SimpleNamespace(work=tmp_path, spec=SimpleNamespace(key="t:1"))
    made.add(attempt)
    yield made
    made.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("live")]


def test_without_a_question_there_is_no_thread(live: LiveFiles) -> None:
    assert not [t for t in threading.enumerate() if t.name.startswith("live")]


def test_a_reader_who_stops_stops_the_executor(
    live: LiveFiles, redis_url: str, tmp_path: Path
) -> None:
    text = "".join(f"{n:063}\n" for n in range(2**14))
    (tmp_path / "log").write_text(text)
    for n in range(100):
        (tmp_path / f"big-{n}").write_text("x" * limits.LIVE_TEXT_BYTES)
    reader = Reader(redis_url)
    names = [f"big-{n}" for n in range(32)]
    live.ask("t:1", reader.request_for(Ask.TAIL, *names, lines=10))
    until(lambda: reader.waiting >= limits.LIVE_WINDOW, what="a full window")
    assert reader.waiting <= limits.LIVE_WINDOW
    seen: list[dict[str, Any]] = []

    def ended() -> bool:
        seen.extend(reader.take())
        return seen[-1]["kind"] == "end" if seen else False

    until(ended, what="the end")
    assert {f["file"] for f in seen if f["kind"] == "text"} == set(names)


def test_one_who_is_slow_does_not_hold_up_another(
    live: LiveFiles, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("first\n")
    slow, quick = Reader(redis_url, 1), Reader(redis_url, 2)
    names = [f"f{n}" for n in range(limits.LIVE_WINDOW + 4)]
    for name in names:
        (tmp_path / name).write_text("x\n")
    live.ask("t:1", slow.request_for(Ask.TAIL, *names, follow=True))
    until(lambda: slow.waiting >= limits.LIVE_WINDOW, what="a full window")
    live.ask("t:1", quick.request_for(Ask.TAIL, "log", follow=True))
    until(lambda: "first\n" in [f.get("text") for f in quick.take()], what="its first line")
    with (tmp_path / "log").open("a") as log:
        log.write("second\n")
    until(lambda: "second\n" in [f.get("text") for f in quick.take()], what="what was added")


def test_who_is_gone_is_not_answered(live: LiveFiles, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\n")
    reader = Reader(redis_url)
    live.ask("t:1", reader.request_for(Ask.TAIL, "log", follow=True))
    until(lambda: reader.waiting > 1, what="an answer")
    reader.client.delete(reader.key)
    until(lambda: not live.busy, what="the executor to stop")
    assert not reader.client.exists(reader.key)


def test_too_many_questions_are_refused(live: LiveFiles, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\n")
    readers = [Reader(redis_url, n) for n in range(LIVE_MAX_REQUESTS + 1)]
    for reader in readers:
        live.ask("t:1", reader.request_for(Ask.TAIL, "log", follow=True))
    assert [f.get("code") for f in readers[-1].take()] == [None, "busy"]
    for reader in readers:
        reader.client.delete(reader.key)
    until(lambda: not live.busy, what="all to end")


def test_a_long_file_is_told_to_its_very_end(
    live: LiveFiles, redis_url: str, tmp_path: Path
) -> None:
    # Characters of three bytes, so that no piece ends where its bytes do.
    (tmp_path / "log").write_text("€" * 1_200_000)
    reader, seen = Reader(redis_url), 0
    live.ask("t:1", reader.request_for(Ask.TAIL, "log", lines=10))

    def ended() -> bool:
        nonlocal seen
        for frame in reader.take():
            seen = frame.get("offset", seen)
            if frame["kind"] == "end":
                return True
        return False

    until(ended, what="the end")
    assert seen == 3_600_000


def test_a_redis_that_was_away_costs_no_line(
    live: LiveFiles, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("first\n")
    reader = Reader(redis_url)
    live.ask("t:1", reader.request_for(Ask.TAIL, "log", follow=True))
    until(lambda: "first\n" in [f.get("text") for f in reader.take()], what="its first line")
    # Writing to the stream is refused for a while, as by a Redis that has no memory left.
    kept: Any = reader.client.config_get("maxmemory")
    reader.client.config_set("maxmemory", "1")
    try:
        with (tmp_path / "log").open("a") as log:
            log.write("second\n")
        until(lambda: live.waits, what="a refusal")
    finally:
        reader.client.config_set("maxmemory", kept["maxmemory"])
    until(lambda: "second\n" in [f.get("text") for f in reader.take()], what="what was added")


def test_fetches_leave_room_for_others(live: LiveFiles, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x")
    held = threading.Event()
    attempt: Any = SimpleNamespace(
        work=tmp_path,
        spec=SimpleNamespace(key="t:2", grant=None),
        transfer=SimpleNamespace(urls=lambda *_: held.wait(30) and {}, put=None),
    )
    live.add(attempt)
    readers = [Reader(redis_url, n) for n in range(LIVE_MAX_FETCHES + 2)]
    for reader in readers[:-1]:
        live.ask("t:2", reader.request_for(Ask.FETCH, "big"))
    assert [f.get("code") for f in readers[-2].take()] == [None, "busy"]
    live.ask("t:2", readers[-1].request_for(Ask.LIST))
    until(lambda: "end" in [f["kind"] for f in readers[-1].take()], what="a list beside them")
    held.set()
    until(lambda: not live.busy, what="all to end")


def test_the_end_of_the_attempt_ends_its_answers(
    live: LiveFiles, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("first\n")
    reader = Reader(redis_url)
    live.ask("t:1", reader.request_for(Ask.TAIL, "log", "missing", follow=True, wait=True))
    live.drop("t:1")
    until(lambda: {"kind": "end", "over": True} in reader.take(), what="the end")
    live.ask("t:1", reader.request_for(Ask.LIST))
    until(lambda: {"kind": "end", "over": True} in reader.take(), what="the end")


@pytest.mark.parametrize(
    "body", [{}, {"request": "x" * 32}, {"request": "../../queue", "ask": "list"}, {"ask": "rm"}]
)
def test_what_is_no_question_is_refused(live: LiveFiles, body: dict[str, Any]) -> None:
    whole = {"files": [], "offsets": [], "lines": 1, "follow": False, "wait": False, **body}
    with pytest.raises(ValueError, match=r"^request[.:]"):
        live.ask("t:1", whole)
