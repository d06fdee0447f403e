"""Answers that go on: what they hold is let go of when whoever asked goes, at whatever moment."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from scheduler.api.sse import ClosedStream, Streams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, MutableMapping

    from starlette.types import Message


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    """What would be closed by the garbage collector alone stays open."""
    gc.disable()
    yield
    gc.enable()


class _News:
    """News that come one by one; closed when its end is over, which takes a while."""

    def __init__(self, *names: str) -> None:
        self.closed = asyncio.Event()
        self._names = names

    async def come(self) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        try:
            for name in self._names:
                yield name, {}
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.closed.set()


async def _go_after(pieces: int, rounds: int, *, while_sending: bool) -> None:
    """Read so many pieces; go so many turns of the loop later, or within a send that lasts."""
    news, streams, gone = _News("a", "b", "c"), Streams(), asyncio.Event()
    sent = 0

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal sent
        if message["type"] == "http.response.body":
            sent += 1
            if sent == pieces:
                asyncio.get_running_loop().create_task(leave())
                if while_sending:
                    await asyncio.Event().wait()

    async def leave() -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
        gone.set()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    answer = streams.respond("ada", news.come())
    await answer({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    await asyncio.wait_for(news.closed.wait(), 10)
    assert not streams._open


@pytest.mark.parametrize("while_sending", [False, True])
@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_a_closed_stream_releases_its_resources(pieces: int, while_sending: bool) -> None:
    for rounds in range(12):
        asyncio.run(_go_after(pieces, rounds, while_sending=while_sending))


def test_an_opened_stream_is_closed_even_if_nothing_was_sent() -> None:
    """Who asks for a file may go before the answer begins, and its machine is at work by then."""

    async def gone_at_once() -> None:
        news = _News("a", "b")
        source = news.come()
        await anext(source)

        async def whole() -> AsyncGenerator[bytes, None]:
            async for name, _ in source:
                yield name.encode()

        async def send(_message: MutableMapping[str, Any]) -> None:
            await asyncio.Event().wait()

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        answer = ClosedStream(whole(), source)
        await answer({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
        assert news.closed.is_set()

    asyncio.run(gone_at_once())
