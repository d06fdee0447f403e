"""Following a task: nothing counts as told before it is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from scheduler.services.watch.follow import _Following
from simherd.contract.live_frames import Ask, FrameKind, LiveRequest


def test_a_follower_cancelled_while_a_reader_ends_stops() -> None:
    async def ended() -> bool:
        nothing: Any = None
        following = _Following(nothing, nothing, LiveRequest(Ask.TAIL), known=0)
        ends = asyncio.Event()

        async def read() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await ends.wait()

        following.reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        stopping = asyncio.create_task(following._stop_reading())
        await asyncio.sleep(0)
        stopping.cancel()
        ends.set()
        await asyncio.wait({stopping})
        return stopping.cancelled()

    assert asyncio.run(ended())


def test_a_tail_stopped_before_its_report_is_requested_again() -> None:
    """Who reads slowly has full news when the task ends: what waited for room is read once more."""

    async def offsets_after(already_waiting: bool) -> tuple[int, ...]:
        nothing: Any = None
        task: Any = SimpleNamespace(attempt=1)
        question = LiveRequest(Ask.TAIL, ("stdout.txt",))
        following = _Following(nothing, task, question, known=0, attempt=1)
        while already_waiting and not following.news.full():
            following.news.put_nowait(("status", {}))
        body = {"file": "stdout.txt", "text": "said", "start": 0, "offset": 4, "anew": False}
        following.reader = asyncio.create_task(following._pass_on(FrameKind.TEXT, body))
        await asyncio.sleep(0)
        await following._stop_reading()
        return following._rest_of_request().offsets

    assert asyncio.run(offsets_after(already_waiting=False)) == (4,)
    assert asyncio.run(offsets_after(already_waiting=True)) == (-1,)
