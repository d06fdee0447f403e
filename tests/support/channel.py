"""A client of the WebRTC bridge that does what a test says, also what no client should."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from simherd.contract.webrtc_channel import LABEL
from simherd.local.stack import free_port
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.env import Env


def offered(api: httpx.Client, task_id: str, sdp: str, client_id: str) -> httpx.Response:
    """Register and offer."""
    path, me = f"/tasks/{task_id}", {"sender_id": client_id}
    registered = api.post(f"{path}/register", json=me)
    if registered.status_code != 200:
        return registered
    body = {**me, "receiver_id": task_id, "type": "offer", "sdp": sdp}
    return api.post(f"{path}/offer", json=body)


async def an_offer() -> str:
    """The SDP of a client that is gone again."""
    connection = RTCPeerConnection(RTCConfiguration([]))
    connection.createDataChannel(LABEL)
    await connection.setLocalDescription(await connection.createOffer())
    sdp: str = connection.localDescription.sdp
    await connection.close()
    return sdp


@asynccontextmanager
async def asked(
    env: Env,
    task_id: str,
    request: str,
    label: str = LABEL,
    offered_to: httpx.Client | None = None,
) -> AsyncIterator[asyncio.Queue[dict[str, Any] | None]]:
    """The replies to a request as they come; None once the channel is closed.

    `offered_to`: the API process that gets the offer, where that is another one.
    """
    replies: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    connection = RTCPeerConnection(RTCConfiguration([]))
    try:
        channel = connection.createDataChannel(label)
        channel.on("open", lambda: channel.send(request))
        channel.on("message", lambda text: replies.put_nowait(json.loads(text)))
        channel.on("close", lambda: replies.put_nowait(None))
        await connection.setLocalDescription(await connection.createOffer())
        client_id = uuid.uuid4().hex
        taken = offered(offered_to or env.api, task_id, connection.localDescription.sdp, client_id)
        assert taken.status_code == 200, taken.text
        answer = env.api.get(f"/tasks/{task_id}/message", params={"client": client_id}).json()
        assert (answer["sender_id"], answer["receiver_id"]) == (task_id, client_id)
        described = RTCSessionDescription(sdp=answer["sdp"], type=answer["type"])
        await connection.setRemoteDescription(described)
        yield replies
    finally:
        await connection.close()


def reply(env: Env, task_id: str, request: Any) -> dict[str, Any]:
    """The first reply to a request."""

    async def ask() -> dict[str, Any] | None:
        async with asked(env, task_id, json.dumps(request)) as replies:
            return await asyncio.wait_for(replies.get(), 60)

    found = asyncio.run(ask())
    assert found is not None, "the channel was closed"
    return found


@contextmanager
def another_api(env: Env, address: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """Another API process of the same deployment."""
    port = str(free_port())
    settings = {**env.part("api").environ(), "SIMHERD_PORT": port}
    argv = [sys.executable, "-m", "scheduler", "api"]
    headers = {"X-API-Key": env.key}
    with (
        subprocess.Popen(argv, env=settings, cwd=env.folder) as process,
        httpx.Client(
            base_url=f"http://{address}:{port}", headers=headers, trust_env=False, timeout=60
        ) as api,
    ):
        try:
            until(lambda: _answers(api), what="another API")
            yield process, api
        finally:
            process.terminate()


def _answers(api: httpx.Client) -> bool:
    try:
        return api.get("/livez").status_code == 200
    except httpx.TransportError:
        return False
