"""Where a client's messages wait until it asks for them, whichever API process it asks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scheduler.services.errors import Conflict
from simherd.contract import limits
from simherd.contract.queue.keys import MailboxKeys

if TYPE_CHECKING:
    import redis.asyncio

#: Seconds that one read waits: less than the connection's own time limit.
_WAIT_S = 2


class Mailboxes:
    """One for each client and task, from when it registers until some time after the last use."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def open(self, task_id: str, client_id: str) -> None:
        """Make a mailbox; one that is there stays as it is."""
        keys = MailboxKeys(task_id, client_id)
        await self._client.set(keys.registered, 1, ex=int(limits.MAILBOX_KEEP_S))

    async def check(self, task_id: str, client_id: str) -> None:
        """Raise Conflict where there is no such mailbox."""
        if not await self._client.exists(MailboxKeys(task_id, client_id).registered):
            raise Conflict(
                f"sender_id: nobody is registered as {client_id!r}. "
                f"Register first, and send the offer within {limits.MAILBOX_KEEP_S:.0f} seconds."
            )

    async def put(self, task_id: str, client_id: str, message: str) -> None:
        """Leave a message; where too many wait, the oldest goes."""
        keys = MailboxKeys(task_id, client_id)
        keep_s = int(limits.MAILBOX_KEEP_S)
        async with self._client.pipeline(transaction=True) as change:
            change.rpush(keys.messages, message)
            change.ltrim(keys.messages, -limits.MAILBOX_MESSAGES, -1)
            change.expire(keys.messages, keep_s)
            change.expire(keys.registered, keep_s)
            await change.execute()

    async def take(self, task_id: str, client_id: str, timeout_s: float) -> str | None:
        """The oldest message; None when none has come within `timeout_s` seconds."""
        messages = MailboxKeys(task_id, client_id).messages
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            # To Redis 0 is for ever.
            wait = self._client.blpop([messages], timeout=max(0.01, min(left, _WAIT_S)))
            reply: Any = await wait
            if reply is not None:
                return str(reply[1])
        popped: Any = await self._client.lpop(messages)
        return None if popped is None else str(popped)
