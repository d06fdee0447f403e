"""The WebRTC connections of one API process: not too many, and none of them for ever."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections import Counter
from typing import TYPE_CHECKING

from scheduler.services.errors import Conflict, TooManyRequests
from simherd.contract import limits

if TYPE_CHECKING:
    from scheduler.bridge.peer import Peer
    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime

#: WebRTC connections of one API process, and of one user with it: each has sockets and keys of its
#: own, and the published client makes one for each file that it follows.
BRIDGE_MAX_CONNECTIONS = 128
BRIDGE_MAX_PER_USER = 2 * limits.LIVE_MAX_FILES


class BridgeConnections:
    """Those that are open."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._serving: dict[asyncio.Task[None], Peer] = {}
        self._of_user: Counter[str] = Counter()
        self._closed = False

    def check_installed(self) -> None:
        """Raise Conflict where the library is missing."""
        # Not a 501: the published client shows its users the reason of a 4xx, and a traceback else.
        if importlib.util.find_spec("aiortc") is None:
            raise Conflict(
                "This server cannot show live files to this client: it runs without WebRTC. "
                "Its operator installs it with: pip install 'simherd[webrtc]'"
            )

    async def answer(self, task: TaskRow, offer: str) -> str:
        """The SDP in reply to a client's offer; the connection then lives by itself.

        Raises:
            Busy: there are too many.
            Invalid, Conflict: no connection can come of it.
        """
        self._take_place(task.user_id)
        peer: Peer | None = None
        try:
            # Importing it takes a third of a second: only when it is used, and in a thread.
            module = await asyncio.to_thread(importlib.import_module, "scheduler.bridge.peer")
            peer = module.Peer(self._rt, task)
            sdp = await peer.answer(offer)
        except BaseException:
            self._give_place(task.user_id)
            if peer is not None:
                await peer.close()
            raise
        self._serve(peer, task.user_id)
        return sdp

    def _serve(self, peer: Peer, user_id: str) -> None:
        serving = asyncio.create_task(peer.serve())
        self._serving[serving] = peer

        def ended(_: asyncio.Task[None]) -> None:
            del self._serving[serving]
            self._give_place(user_id)

        serving.add_done_callback(ended)

    def _take_place(self, user_id: str) -> None:
        if self._closed:
            raise TooManyRequests("This API process stops just now. Try again in some seconds.")
        most, most_of_user = BRIDGE_MAX_CONNECTIONS, BRIDGE_MAX_PER_USER
        if self._of_user[user_id] >= most_of_user:
            raise TooManyRequests(
                f"You follow {most_of_user} files already: stop following some of them."
            )
        if self._of_user.total() >= most:
            raise TooManyRequests(
                f"{most} live files are looked at already. Try again in some minutes."
            )
        self._of_user[user_id] += 1

    def _give_place(self, user_id: str) -> None:
        self._of_user[user_id] -= 1
        if not self._of_user[user_id]:
            del self._of_user[user_id]

    async def close(self) -> None:
        """Close all, and wait until they are."""
        self._closed = True
        for peer in self._serving.values():
            peer.stop()
        await asyncio.gather(*self._serving, return_exceptions=True)
