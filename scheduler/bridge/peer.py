"""One WebRTC connection with a client: its request, and replies as fast as it reads them."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing
from typing import TYPE_CHECKING

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription

from scheduler.bridge.replies import replies
from scheduler.services.errors import Conflict, Invalid
from simherd.contract.webrtc_channel import LABEL, ChannelRequest, Reply, ReplyStatus

if TYPE_CHECKING:
    from aiortc import RTCDataChannel

    from scheduler.config import Settings
    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime

#: Seconds in which a connection must have been made and the client must have asked something.
BRIDGE_CONNECT_S = 30.0
#: Seconds for which a client that has its answer may keep the connection.
BRIDGE_LINGER_S = 10.0
#: Bytes that may wait in a connection for a client that reads slowly, besides one message.
BRIDGE_BUFFER_BYTES = 256 * 1024
#: Bytes of a message: what every WebRTC client takes (RFC 8841), and the most that is sent to one
#: that takes more.
BRIDGE_LEAST_MESSAGE_BYTES = 64 * 1024
BRIDGE_MESSAGE_BYTES = 256 * 1024

log = logging.getLogger(__name__)

_CANDIDATE = re.compile(r"^a=candidate:", re.MULTILINE)
_MEDIA = re.compile(r"^m=(\S*)", re.MULTILINE)
_MESSAGE_SIZE = re.compile(r"^a=max-message-size:([0-9]{1,12})\s*$", re.MULTILINE)
#: States from which a connection comes, or in which it is.
_ALIVE = frozenset({"new", "connecting", "connected"})


class Peer:
    """A connection that handles one request of one client and then ends."""

    def __init__(self, rt: Runtime, task: TaskRow) -> None:
        self._rt, self._task = rt, task
        self._connection = RTCPeerConnection(_configuration(rt.settings))
        self._gone = asyncio.Event()
        self._room = asyncio.Event()
        self._asked: asyncio.Future[str | bytes] = asyncio.get_running_loop().create_future()
        self._channel: RTCDataChannel | None = None
        self._most = BRIDGE_LEAST_MESSAGE_BYTES
        self._connection.on("datachannel", self._on_channel)
        self._connection.on("connectionstatechange", self._on_state)

    async def answer(self, offer: str) -> str:
        """The SDP in reply to an offer. Raises Invalid, or Conflict where no connection can be."""
        if _MEDIA.findall(offer) != ["application"]:
            raise Invalid("sdp: must offer a data channel and nothing else.")
        if not _CANDIDATE.search(offer):
            raise Invalid("sdp: there is no candidate in it: the client has no network address.")
        self._most = _message_size(offer)
        try:
            described = RTCSessionDescription(sdp=offer, type="offer")
            await self._connection.setRemoteDescription(described)
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except (ValueError, AssertionError, KeyError, IndexError) as error:
            # What the parser makes of nonsense.
            raise Invalid(f"sdp: cannot be understood ({error or type(error).__name__}).") from None
        sdp: str = self._connection.localDescription.sdp
        if not _CANDIDATE.search(sdp):
            # The client would wait for ever.
            raise Conflict("The API has no network address besides loopback: WebRTC needs one.")
        return sdp

    async def serve(self) -> None:
        """Answer the request, until all is said or the client is gone."""
        work = asyncio.create_task(self._work())
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            (failed, _) = await asyncio.gather(work, gone, return_exceptions=True)
            if isinstance(failed, Exception):
                log.warning("event=bridge_broke task=%s error=%r", self._task.id, failed)
            await self.close()

    def stop(self) -> None:
        """Have `serve` end."""
        self._gone.set()

    async def close(self) -> None:
        """Close the connection; the client notices."""
        await self._connection.close()

    async def _work(self) -> None:
        try:
            text = await asyncio.wait_for(self._asked, BRIDGE_CONNECT_S)
        except TimeoutError:
            log.info("event=bridge_not_used task=%s", self._task.id)
            return
        last, follows = Reply(ReplyStatus.INVALID, ""), False
        try:
            request = ChannelRequest.read(text)
        except ValueError as error:
            await self._send(Reply(ReplyStatus.INVALID, f"{error}\n"))
        else:
            follows = request.follow
            async with aclosing(replies(self._rt, self._task, request, self._most)) as answer:
                async for last in answer:
                    await self._send(last)
        await self._end(by_us=follows and last.status is ReplyStatus.SUCCESS)

    async def _send(self, reply: Reply) -> None:
        channel = self._open_channel()
        if channel.readyState != "open":
            # The client closes it; `serve` is about to end.
            await self._gone.wait()
        while channel.bufferedAmount > BRIDGE_BUFFER_BYTES:
            self._room.clear()
            await self._room.wait()
        channel.send(reply.encode())

    async def _end(self, *, by_us: bool) -> None:
        """Let the client take the last message and close; one that follows waits for us to."""
        if by_us:
            self._open_channel().close()
        await asyncio.sleep(BRIDGE_LINGER_S)

    def _open_channel(self) -> RTCDataChannel:
        assert self._channel is not None
        return self._channel

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if self._channel is not None or channel.label != LABEL:
            channel.close()
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = BRIDGE_BUFFER_BYTES
        channel.on("message", self._on_message)
        channel.on("bufferedamountlow", self._room.set)
        channel.on("close", self._gone.set)

    def _on_message(self, text: str | bytes) -> None:
        if not self._asked.done():
            self._asked.set_result(text)

    def _on_state(self) -> None:
        if self._connection.connectionState not in _ALIVE:
            self._gone.set()


def _message_size(offer: str) -> int:
    """Bytes of the longest message that the client takes and we send."""
    match = _MESSAGE_SIZE.search(offer)
    size = int(match[1]) if match else BRIDGE_LEAST_MESSAGE_BYTES
    # To RFC 8841 0 is without a limit.
    if 0 < size < BRIDGE_LEAST_MESSAGE_BYTES:
        least = BRIDGE_LEAST_MESSAGE_BYTES
        raise Invalid(f"sdp: max-message-size must be at least {least}; given was {size}.")
    return min(size or BRIDGE_MESSAGE_BYTES, BRIDGE_MESSAGE_BYTES)


def _configuration(settings: Settings) -> RTCConfiguration:
    """How the API finds addresses at which clients reach it."""
    secret = settings.ice_credential
    servers = [
        RTCIceServer(url, settings.ice_username, secret.get_secret_value() if secret else None)
        for url in settings.ice_urls
    ]
    return RTCConfiguration(servers)
