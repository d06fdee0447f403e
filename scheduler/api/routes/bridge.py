"""Signalling of the data channel between the published client and the API."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import Field, StrictStr

from scheduler.api.bounded import StrictBody
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.limits import MAX_NAME_CHARACTERS
from scheduler.api.strict import StrictRouter
from scheduler.bridge.connections import BridgeConnections
from scheduler.queue.mailboxes import MAILBOX_KEEP_S
from scheduler.services.errors import Conflict, Invalid
from scheduler.services.tasks.listing import owned_task

#: Seconds for which a client that asks for a message waits, unless it says otherwise, and the most.
MESSAGE_WAIT_S = 10.0
MAX_MESSAGE_WAIT_S = 60.0
#: The longest offer, characters: each address in it is one that the API process sends packets to.
MAX_OFFER = 16 * 1024

router = StrictRouter(prefix="/tasks", tags=["tasks"])

#: What clients call themselves; a UUID.
_ID = "^[A-Za-z0-9_.-]{1,64}$"


def get_connections(request: Request) -> BridgeConnections:
    """This process' WebRTC connections, where it can have some."""
    connections = request.app.state.connections
    assert isinstance(connections, BridgeConnections)
    connections.check_installed()
    return connections


ConnectionsDep = Annotated[BridgeConnections, Depends(get_connections)]


class TaskConnection(StrictBody):
    """A message between a client and a task's end of the channel, in the contract's words."""

    sender_id: StrictStr = Field(pattern=_ID, max_length=64)
    receiver_id: StrictStr | None = Field(default=None, max_length=MAX_NAME_CHARACTERS)
    type: Literal["offer"] | None = None
    sdp: StrictStr | None = Field(default=None, max_length=MAX_OFFER)


@router.post("/{task_id}/register")
async def register(
    rt: RuntimeDep, user: UserDep, _: ConnectionsDep, task_id: str, body: TaskConnection
) -> dict[str, str]:
    """A client will send an offer, and ask for the answer."""
    await run_in_threadpool(owned_task, rt, user.id, task_id)
    await rt.mailboxes.open(task_id, body.sender_id)
    return {"sender_id": body.sender_id}


@router.post("/{task_id}/offer")
async def offer(
    rt: RuntimeDep, user: UserDep, connections: ConnectionsDep, task_id: str, body: TaskConnection
) -> dict[str, str]:
    """A client's WebRTC offer to a task; the answer waits in the client's mailbox."""
    task = await run_in_threadpool(owned_task, rt, user.id, task_id)
    if body.type is None or body.sdp is None or body.receiver_id != task_id:
        raise Invalid(f"offer: needs type 'offer', an sdp, and receiver_id {task_id!r}.")
    if not await rt.mailboxes.is_open(task_id, body.sender_id):
        raise Conflict(
            f"sender_id: nobody is registered as {body.sender_id!r}. "
            f"Register first, and send the offer within {MAILBOX_KEEP_S:.0f} seconds."
        )
    answer: dict[str, Any] = {
        "sender_id": task_id,
        "receiver_id": body.sender_id,
        "type": "answer",
        "sdp": await connections.answer(task, body.sdp),
    }
    await rt.mailboxes.put(task_id, body.sender_id, json.dumps(answer))
    return {"sender_id": body.sender_id}


@router.get("/{task_id}/message", response_model=None)
async def message(
    rt: RuntimeDep,
    user: UserDep,
    _: ConnectionsDep,
    task_id: str,
    client: Annotated[str, Query(pattern=_ID, max_length=64)],
    block_s: Annotated[float, Query(ge=0, le=MAX_MESSAGE_WAIT_S)] = MESSAGE_WAIT_S,
) -> Response:
    """The oldest message for a client, as soon as there is one; 204 when none has come."""
    await run_in_threadpool(owned_task, rt, user.id, task_id)
    text = await rt.mailboxes.take(task_id, client, block_s)
    return Response(status_code=204) if text is None else JSONResponse(json.loads(text))
