"""The inbox: every message is handled once in order, whatever one of them is like."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from executor.link import inbox as module
from executor.link.inbox import Inbox
from simherd.contract.inbox import Message, Order
from simherd.contract.queue.keys import GroupKeys
from tests.support.redis_wire import RedisFault, ScriptedRedis

KEY = GroupKeys("g").inbox("m1")


class Server:
    """Gives out entries once, then nothing for as long as the test lasts."""

    def __init__(self, *entries: tuple[str, str], faults: int = 0) -> None:
        self.entries = list(entries)
        self.faults = faults
        self.over = threading.Event()

    def reply(self, _name: str, args: list[str]) -> Any:
        if self.faults:
            self.faults -= 1
            raise RedisFault("LOADING Redis is loading the dataset in memory")
        after = args[-1]
        rest = [[entry, ["m", text]] for entry, text in self.entries if entry > after]
        if not rest:
            self.over.wait(0.01)
            return None
        return {KEY: rest}


def read(script: Server, count: int, *, fails: bool = False) -> list[Message]:
    handled: list[Message] = []
    done = threading.Event()

    def handle(message: Message) -> None:
        handled.append(message)
        if len(handled) == count:
            done.set()
        if fails:
            raise RuntimeError("a bug")

    with ScriptedRedis(script.reply) as server:
        inbox = Inbox(server.url, "g", "m1", handle)
        assert not inbox.has_died
        inbox.start()
        assert done.wait(30)
        assert not inbox.has_died
        script.over.set()
        inbox.close()
    assert not inbox.has_died
    return handled


STOP, DRAIN = Message(Order.STOP, "a:1"), Message(Order.DRAIN, "")


def test_messages_are_handled_in_order_and_once() -> None:
    script = Server(("1-0", STOP.encode()), ("2-0", DRAIN.encode()))
    assert read(script, 2) == [STOP, DRAIN]


@pytest.mark.parametrize("junk", ["", "{}", "[]", '{"order": "dance", "attempt": "a:1"}'])
def test_a_message_that_cannot_be_read_is_left_out(junk: str) -> None:
    script = Server(("1-0", junk), ("2-0", STOP.encode()))
    assert read(script, 1) == [STOP]


def test_a_handler_that_fails_does_not_end_the_reading() -> None:
    script = Server(("1-0", STOP.encode()), ("2-0", DRAIN.encode()))
    assert read(script, 2, fails=True) == [STOP, DRAIN]


def test_reading_resumes_after_an_error_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.001)
    assert read(Server(("1-0", STOP.encode()), faults=2), 1) == [STOP]
