"""Rate limits in the memory of one API process: tokens, lanes, and bytes of bodies."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from fastapi import HTTPException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

#: Bytes of JSON bodies in the memory of one API process, of all users and of one, who may send the
#: largest. Parsed they take several times as much.
BODIES_BYTES = 64 * 1024**2
BODIES_OF_ONE_BYTES = 40 * 1024**2

#: Names that a table remembers: the one unused for longest is forgotten first.
_MOST_NAMES = 10_000


def too_many(status: int, detail: str, wait_s: float = 1.0) -> HTTPException:
    """A refusal that says after how many seconds to ask again."""
    return HTTPException(status, detail, {"Retry-After": str(max(1, math.ceil(wait_s)))})


class Buckets:
    """A token bucket for each name: `rate` a second, and up to `burst` at once.
    The buckets are this process' own: `n` API processes let through up to `n` times as much."""

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        #: Name → the tokens that it had, and when.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """Seconds until the name has a token; 0: it has one."""
        tokens = self._tokens(name)
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate

    def take(self, name: str) -> float:
        """Take one of the name's tokens; the seconds to wait where it has none, else 0."""
        wait = self.wait_s(name)
        if not wait:
            self._left[name] = (self._tokens(name) - 1, self._clock())
            self._left.move_to_end(name)
            if len(self._left) > _MOST_NAMES:
                self._left.popitem(last=False)
        return wait

    def _tokens(self, name: str) -> float:
        tokens, at = self._left.get(name, (self._burst, 0.0))
        return min(self._burst, tokens + (self._clock() - at) * self._rate)


class Lane:
    """How many may be within it at one time, of all and of one name: an address, a user."""

    def __init__(self, most: int, refusal: str) -> None:
        """`refusal`: the sentence for a request that finds no room."""
        self._most, self._refusal = most, refusal
        self._inside: Counter[str] = Counter()

    @contextmanager
    def entered(self, name: str) -> Iterator[None]:
        """Be within. Raises HTTPException: it is full."""
        # One name never takes all of it.
        if self._inside.total() >= self._most or self._inside[name] >= self._most // 2:
            raise too_many(503, self._refusal)
        self._inside[name] += 1
        try:
            yield
        finally:
            self._inside[name] -= 1
            if not self._inside[name]:
                del self._inside[name]


class Shares:
    """How many of a name's requests go on at one time; its others wait in order, in the event loop.
    Only names that have requests are remembered."""

    def __init__(self, most: int, most_waiting: int, refusal: str) -> None:
        """`most`, `most_waiting`: of one name; `refusal`: the error's text beyond both."""
        self._most, self._most_waiting, self._refusal = most, most_waiting, refusal
        #: Requests of a name, those that wait included.
        self._requests: Counter[str] = Counter()
        self._free: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """Have one of the name's places. Raises HTTPException, status 429: too many wait."""
        if self._requests[name] >= self._most + self._most_waiting:
            raise too_many(429, self._refusal)
        self._requests[name] += 1
        try:
            async with self._free.setdefault(name, asyncio.Semaphore(self._most)):
                yield
        finally:
            self._requests[name] -= 1
            if not self._requests[name]:
                del self._requests[name], self._free[name]

    def __len__(self) -> int:
        return len(self._requests)


class KnownKeys:
    """Digests of keys that were good lately: their owners do not stand in line with strangers.
    It opens nothing: each request's key is looked up in the database all the same."""

    def __init__(self) -> None:
        self._good: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._good

    def add(self, digest: str) -> None:
        """The key is good."""
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > _MOST_NAMES:
            self._good.popitem(last=False)

    def discard(self, digest: str) -> None:
        """The key is not good, or no longer."""
        self._good.pop(digest, None)


class BodyBudget:
    """Bytes of JSON bodies that are in memory, of all requests and of each user."""

    def __init__(self, most: int = BODIES_BYTES, most_of_one: int = BODIES_OF_ONE_BYTES) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._held: Counter[str] = Counter()

    def charge(self, name: str, size: int) -> None:
        """Hold so many bytes more. Raises HTTPException: that would be too much."""
        if self._held[name] + size > self._most_of_one:
            raise too_many(
                429,
                f"body: your requests under way have {self._most_of_one} bytes of bodies together. "
                "Send one after another.",
            )
        if self._held.total() + size > self._most:
            raise too_many(503, "body: the server holds as many large bodies as it can. Try again.")
        self._held[name] += size

    def release(self, name: str, size: int) -> None:
        """Hold so many bytes less."""
        self._held[name] -= size
        if not self._held[name]:
            del self._held[name]

    @property
    def held(self) -> int:
        """The bytes that are held."""
        return self._held.total()
