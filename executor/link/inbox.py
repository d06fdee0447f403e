"""The scheduler's messages to this executor, read as they come."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from executor.link.connection import Address, connect
from simherd.contract.inbox import Message
from simherd.contract.queue.keys import GroupKeys

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds one read waits.
_WAIT_S = 10.0
#: Seconds between two tries while Redis is out of reach.
_RETRY_S = 1.0


class Inbox:
    """A thread that reads the inbox and passes on every message."""

    def __init__(
        self, where: str | Address, group: str, executor: str, handle: Callable[[Message], None]
    ) -> None:
        self._client = connect(where, blocking_s=_WAIT_S)
        self._key = GroupKeys(group).inbox(executor)
        self._handle = handle
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inbox")

    def start(self) -> None:
        """Start to read, from the first message that is kept: an earlier agent perhaps did not
        handle one about an attempt that goes on. Orders may be carried out twice."""
        self._thread.start()

    @property
    def has_died(self) -> bool:
        """Whether its thread ended before `close`."""
        return not self._thread.is_alive() and bool(self._thread.ident) and not self._stop.is_set()

    def close(self) -> None:
        """Stop reading, and join."""
        self._stop.set()
        self._client.connection_pool.disconnect()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        after = "0-0"
        while not self._stop.is_set():
            try:
                after = self._read(after)
            except Exception as error:
                # Of any kind: a connection that `close` cuts fails inside the library.
                if not self._stop.is_set():
                    log.warning("event=inbox_waits error=%s", error)
                    self._stop.wait(_RETRY_S)

    def _read(self, after: str) -> str:
        streams: Any = self._client.xread({self._key: after}, block=int(_WAIT_S * 1000), count=100)
        if isinstance(streams, dict):
            streams = [(k, v[0] if v and isinstance(v[0], list) else v) for k, v in streams.items()]
        for _, entries in streams or []:
            for entry, fields in entries:
                after = entry
                try:
                    self._handle(Message.decode(fields["m"]))
                except (ValueError, KeyError) as error:
                    log.error("event=message_unreadable entry=%s error=%s", entry, error)
                except Exception:
                    # Without this thread no kill and no deadline would ever arrive.
                    log.exception("event=message_not_handled entry=%s", entry)
        return after
