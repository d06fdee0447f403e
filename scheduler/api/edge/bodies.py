"""Requests' bodies as they come in: bounded in size, in time, and in memory."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from scheduler.api.asgi import Receive
    from scheduler.api.edge.access import Rule
    from scheduler.api.edge.rates import BodyBudget

#: Seconds in which a body must have come, without the time that the server itself takes.
BODY_TOTAL_S = 60.0
#: Bytes per second, on the average after the first `BODY_TOTAL_S`, at which a file must come.
LEAST_BYTES_PER_S = 1024
#: Seconds and bytes of a refused request's body that are read and forgotten, so that its client
#: sees why it was refused.
LINGER_S = 1.0
LINGER_BYTES = 256 * 1024


class Body:
    """One request's body, from `receive`: nothing of it is read before the route asks for it."""

    def __init__(
        self, headers: Mapping[bytes, bytes], receive: Receive, most_bytes: int, idle_s: float
    ) -> None:
        """`most_bytes`: how long it may be; `idle_s`: seconds in which some more must come."""
        self._receive = receive
        self._most_bytes, self._idle_s = most_bytes, idle_s
        self._size, self._waited_s = 0, 0.0
        self._budget: BodyBudget | None = None
        self._name = ""
        self._is_file = False
        length = headers.get(b"content-length", b"")
        #: Bytes that are announced; None where they come in chunks.
        self.length = int(length) if length.isdigit() else None
        self.is_announced = b"transfer-encoding" in headers or bool(self.length)
        self._is_waited_for = headers.get(b"expect", b"").lower() == b"100-continue"
        #: Whether all of it has come.
        self.is_read = not self.is_announced

    def admit(self, rule: Rule, name: str, budget: BodyBudget) -> None:
        """Let the route read it, and charge it to a name's share of the memory.
        Raises HTTPException: it says itself that it is too long."""
        self._is_file = rule.is_file
        self._name, self._budget = name, None if rule.is_file else budget
        if (self.length or 0) > self._most_bytes:
            raise self._too_long()

    def release(self) -> None:
        """The request is over: the body is in memory no more."""
        if self._budget is not None:
            self._budget.release(self._name, self._size)
            self._budget = None

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message, as ASGI says.
        Raises HTTPException: it is too long, too slow, or there is no memory for it."""
        if self.is_read:
            return await self._receive()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._patience_s()):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(
                408, "body: it did not come in time. Send the request again.", _CLOSE
            ) from None
        self._waited_s += loop.time() - began
        self._count(message)
        return message

    def _patience_s(self) -> float:
        # A file must come at a minimum rate on average, so that a slow sender ends, too.
        most = BODY_TOTAL_S + (self._size / LEAST_BYTES_PER_S if self._is_file else 0)
        return max(0.0, min(self._idle_s, most - self._waited_s))

    def _count(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] != "http.request":
            self.is_read = True
            return
        self.is_read = not message.get("more_body")
        size = len(message.get("body", b""))
        if self._size + size > self._most_bytes:
            raise self._too_long()
        if self._budget is not None:
            self._budget.charge(self._name, size)
        self._size += size

    def _too_long(self) -> HTTPException:
        detail = f"body: larger than {self._most_bytes} bytes. "
        if not self._is_file:
            detail += "Put data into the input files; the request holds parameters only."
        return HTTPException(413, detail, _CLOSE)

    async def discard(self) -> None:
        """Read on for a moment, and forget it: a client that is still sending would else lose the
        response with the connection (RFC 9112, section 9.6)."""
        if self._is_waited_for:
            return
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return


_CLOSE = {"Connection": "close"}
