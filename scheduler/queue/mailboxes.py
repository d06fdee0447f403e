"""Mailboxes in Redis: a client gets its messages from any API process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from simherd.contract.queue.keys import MailboxKeys

if TYPE_CHECKING:
    import redis.asyncio

#: Seconds for which a mailbox of the WebRTC bridge is kept: a client takes some for its offer.
MAILBOX_KEEP_S = 60.0
#: Messages that wait in one: there is one answer to one offer.
MAILBOX_MESSAGES = 4

#: Seconds that one read waits: less than the connection's own time limit.
_WAIT_S = 2


class Mailboxes:
    """One mailbox for each client and task, kept for some time after its last use."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def open(self, task_id: str, client_id: str) -> None:
        """Create a mailbox; an existing one stays as it is."""
        keys = MailboxKeys(task_id, client_id)
        await self._client.set(keys.registered, 1, ex=int(MAILBOX_KEEP_S))

    async def is_open(self, task_id: str, client_id: str) -> bool:
        """Return whether there is such a mailbox."""
        return bool(await self._client.exists(MailboxKeys(task_id, client_id).registered))

    async def put(self, task_id: str, client_id: str, message: str) -> None:
        """Add a message; beyond the limit the oldest is dropped."""
        keys = MailboxKeys(task_id, client_id)
        keep_s = int(MAILBOX_KEEP_S)
        async with self._client.pipeline(transaction=True) as change:
            change.rpush(keys.messages, message)
            change.ltrim(keys.messages, -MAILBOX_MESSAGES, -1)
            change.expire(keys.messages, keep_s)
            change.expire(keys.registered, keep_s)
            await change.execute()

    async def take(self, task_id: str, client_id: str, timeout_s: float) -> str | None:
        """Return the oldest message; None when none has come within `timeout_s` seconds."""
        messages = MailboxKeys(task_id, client_id).messages
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            # A timeout of 0 would wait for ever.
            wait = self._client.blpop([messages], timeout=max(0.01, min(left, _WAIT_S)))
            pair: Any = await wait
            if pair is not None:
                return str(pair[1])
        popped: Any = await self._client.lpop(messages)
        return None if popped is None else str(popped)
