"""What executors ask for while they hold an attempt: storing its outputs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from pydantic import BaseModel, ConfigDict, Field

from scheduler.api.deps import PartsDep
from scheduler.services.attempt_outputs import ROUTE, AttemptOutputs
from simherd.contract.uploads import MOST_PARTS

router = APIRouter(prefix=ROUTE + "/{task_id}/{attempt}", tags=["attempts"])

_ABORT = "/abort"


def _outputs(
    request: Request,
    parts: PartsDep,
    task_id: str,
    attempt: int,
    authorization: Annotated[str, Header()] = "",
) -> AttemptOutputs:
    # What an attempt that has lost its lease left half done, it may still clear away.
    fenced = not request.url.path.endswith(_ABORT)
    token = authorization.removeprefix("Bearer ")
    return AttemptOutputs(parts, task_id, attempt, token, fenced=fenced)


Outputs = Annotated[AttemptOutputs, Depends(_outputs)]


class Upload(BaseModel):
    """An upload in parts."""

    model_config = ConfigDict(extra="forbid")
    upload: str = Field(min_length=1, max_length=2000)


class PartWanted(Upload):
    """Which part is to be sent."""

    number: int = Field(ge=1, le=MOST_PARTS)


class Completion(Upload):
    """All parts: number and ETag."""

    parts: list[tuple[int, str]] = Field(min_length=1, max_length=MOST_PARTS)


@router.post("/urls")
def urls(outputs: Outputs) -> dict[str, str]:
    """New signed URLs for the outputs and their manifest."""
    return outputs.urls()


@router.post("/stored")
def stored(outputs: Outputs) -> dict[str, int]:
    """The size of the outputs as they are stored."""
    return {"size": outputs.stored_size()}


@router.post("/begin")
def begin(outputs: Outputs) -> dict[str, str]:
    """Begin an upload in parts."""
    return {"upload": outputs.begin()}


@router.post("/part")
def part(outputs: Outputs, asked: PartWanted) -> dict[str, str]:
    """Where to send a part."""
    return {"url": outputs.part_url(asked.upload, asked.number)}


@router.post("/complete")
def complete(outputs: Outputs, asked: Completion) -> dict[str, int]:
    """Make the outputs of their parts."""
    return {"size": outputs.complete(asked.upload, asked.parts)}


@router.post(_ABORT)
def abort(outputs: Outputs, asked: Upload) -> dict[str, Any]:
    """Forget an upload in parts."""
    outputs.abort(asked.upload)
    return {}
