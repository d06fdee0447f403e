"""Mailboxes of the WebRTC bridge, as two API processes share them."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest
import redis

from scheduler.queue.live_answers import connect_async
from scheduler.queue.mailboxes import MAILBOX_KEEP_S, MAILBOX_MESSAGES, Mailboxes
from simherd.contract.queue.keys import MailboxKeys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture
def task() -> str:
    return uuid.uuid4().hex


def both(redis_url: str, work: Callable[[Mailboxes, Mailboxes], Awaitable[None]]) -> None:
    """Do something with the mailboxes of two processes."""

    async def run() -> None:
        async with connect_async(redis_url) as one, connect_async(redis_url) as other:
            await work(Mailboxes(one), Mailboxes(other))

    asyncio.run(run())


def test_what_one_process_puts_another_takes_once(redis_url: str, task: str) -> None:
    async def work(one: Mailboxes, other: Mailboxes) -> None:
        await one.open(task, "me")
        assert await other.is_open(task, "me")
        await one.put(task, "me", "first")
        await one.put(task, "me", "second")
        assert await other.take(task, "me", 0) == "first"
        assert await one.take(task, "me", 5) == "second"
        assert await one.take(task, "me", 0) is None

    both(redis_url, work)


def test_whoever_waits_is_woken(redis_url: str, task: str) -> None:
    async def work(one: Mailboxes, other: Mailboxes) -> None:
        waiting = asyncio.create_task(other.take(task, "me", 60))
        await one.put(task, "me", "here")
        assert await waiting == "here"

    both(redis_url, work)


def test_mailboxes_are_apart(redis_url: str, task: str) -> None:
    async def work(one: Mailboxes, other: Mailboxes) -> None:
        await one.open(task, "me")
        await one.put(task, "me", "mine")
        for task_id, client in ((task, "you"), (f"{task}2", "me")):
            assert await other.take(task_id, client, 0) is None
            assert not await other.is_open(task_id, client)

    both(redis_url, work)


def test_size_and_age_are_bounded(redis_url: str, task: str) -> None:
    async def work(one: Mailboxes, _: Mailboxes) -> None:
        await one.open(task, "me")
        for number in range(MAILBOX_MESSAGES + 2):
            await one.put(task, "me", str(number))
        assert await one.take(task, "me", 0) == "2"

    both(redis_url, work)
    keys = MailboxKeys(task, "me")
    with redis.Redis.from_url(redis_url) as client:
        for key in (keys.registered, keys.messages):
            assert 0 < int(client.ttl(key)) <= MAILBOX_KEEP_S
