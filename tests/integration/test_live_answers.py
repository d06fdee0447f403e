"""Reading answers about live files and stored ones, where readers are slow or streams are lost."""

from __future__ import annotations

import asyncio
import io
import random
import zipfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import redis

from scheduler.objects.folder import FolderStore
from scheduler.queue import live_answers
from scheduler.queue.dropped_input import DroppedInput
from scheduler.queue.live_answers import LiveAnswers, StreamGone, connect_async
from scheduler.services.errors import ResourceNotFound
from scheduler.services.watch.saved import SavedFiles
from simherd.contract import limits
from simherd.contract.queue.keys import GroupKeys
from tests.support.queue import one_server

if TYPE_CHECKING:
    from pathlib import Path


def test_a_redis_that_never_responds_is_reported(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read() -> None:
        client = connect_async(redis_url)
        async with LiveAnswers(one_server(client), DroppedInput()).opened("g") as reading:
            monkeypatch.setattr(live_answers, "_LOST_S", 0.2)
            await client.client_pause(1500)
            with pytest.raises(redis.TimeoutError, match="has not responded for"):
                async for _ in reading.frames():
                    pass
        await client.aclose()

    asyncio.run(read())


def test_a_stream_is_kept_while_somebody_reads_however_slowly(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_answers, "LIVE_KEEP_S", 4.0)

    async def read() -> None:
        client = connect_async(redis_url)
        async with LiveAnswers(one_server(client), DroppedInput()).opened("g") as reading:
            key = GroupKeys("g").live(reading.request)
            # Nothing is read, and yet it is kept longer, again and again.
            left, renewals = await client.pttl(key), 0
            while renewals < 2:
                before, left = left, await client.pttl(key)
                assert left > 0
                renewals += left > before
            await client.delete(key)
            with pytest.raises(StreamGone):
                _ = [None async for _ in reading.frames()]
        await client.aclose()

    asyncio.run(read())


@pytest.fixture
def saved(tmp_path: Path) -> SavedFiles:
    """The stored outputs of a task: files whose sizes are no round numbers."""
    store = FolderStore(tmp_path, "http://x", "key")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("artifacts/zeros", bytes(4 * 1024**2 + 1))
        packed.writestr("artifacts/noise", random.Random(1).randbytes(5 * 1024**2 + 3))
        packed.writestr("artifacts/log.txt", "".join(f"line {n}\n" for n in range(300_000)))
        packed.writestr("artifacts/empty", "")
    file = store.file("user", "t/attempts/1/output.zip")
    file.parent.mkdir(parents=True)
    file.write_bytes(buffer.getvalue())
    parts: Any = SimpleNamespace(objects=store)
    task: Any = SimpleNamespace(user_id="user", storage_prefix="", id="t", attempt=1)
    return SavedFiles(parts, task)


@pytest.mark.parametrize("name", ["zeros", "noise", "log.txt", "empty"])
def test_a_stored_file_comes_to_its_last_byte(saved: SavedFiles, name: str) -> None:
    assert sum(len(piece) for piece in saved.content(name)) == saved.size(name)


def test_the_end_of_a_stored_file_is_found(saved: SavedFiles) -> None:
    found = saved.tail("log.txt", 2)
    assert found.text == "line 299998\nline 299999\n"
    assert found.offset == saved.size("log.txt")
    rest = saved.tail("log.txt", 0, found.start)
    assert (rest.text, rest.skipped) == (found.text, 0)
    far = saved.tail("log.txt", 0, 0)
    assert len(far.text) == limits.LIVE_BACKLOG_BYTES
    assert far.skipped == saved.size("log.txt") - limits.LIVE_BACKLOG_BYTES
    assert saved.tail("empty", 5).text == ""
    with pytest.raises(ResourceNotFound):
        saved.tail("../log.txt", 1)
