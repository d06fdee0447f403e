"""Storing outputs and checkpoints of an attempt, for the executor that holds it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic import Field, field_validator

from scheduler.api.bounded import AttemptNumber, BigNumber, StrictBody
from scheduler.api.deps import RuntimeDep
from scheduler.api.limits import MAX_INTEGER, MIN_INTEGER
from scheduler.api.strict import StrictRouter
from scheduler.services.attempts.outputs import ROUTE, AttemptOutputs
from simherd.contract.checkpoints import MOST_FILES, SavedFile
from simherd.contract.objects import CHECKPOINT_FILE, LIVE_SLICE, MANIFEST, OUTPUT, normalise
from simherd.contract.upload_grant import MOST_PARTS

router = StrictRouter(prefix=ROUTE + "/{task_id}/{attempt}", tags=["attempts"])

_ABORT = "/abort"
CHECKPOINT_VERB = "/checkpoint"


def get_outputs(
    request: Request,
    rt: RuntimeDep,
    task_id: str,
    attempt: AttemptNumber,
    authorization: Annotated[str, Header()] = "",
) -> AttemptOutputs:
    """What belongs to the attempt whose token came with the request."""
    # An attempt that has lost its lease may still abort its uploads.
    fenced = not request.url.path.endswith(_ABORT)
    token = authorization.removeprefix("Bearer ")
    return AttemptOutputs(rt, task_id, attempt, token, fenced=fenced)


Outputs = Annotated[AttemptOutputs, Depends(get_outputs)]


_SLICE = rf"{LIVE_SLICE}[0-9a-f]{{32}}/[0-9]{{1,9}}"
_NAME = rf"^({OUTPUT}|{MANIFEST}|{CHECKPOINT_FILE}[0-9a-f]{{64}}|{_SLICE})$"
Name = Annotated[str, Field(pattern=_NAME, max_length=200)]
PartNumber = Annotated[int, Field(ge=1, le=MOST_PARTS)]
ETag = Annotated[str, Field(min_length=1, max_length=200, pattern="^[!-~]+$")]


class Stored(StrictBody):
    """One of the objects that an attempt may store."""

    object: Name = OUTPUT


class Wanted(StrictBody):
    """Several objects."""

    objects: list[Name] = Field(default=[OUTPUT, MANIFEST], max_length=1000)


class Upload(Stored):
    """An upload in parts."""

    upload: str = Field(min_length=1, max_length=2000, pattern="^[!-~]+$")


class PartWanted(Upload):
    """The part to be sent."""

    number: PartNumber


class Completion(Upload):
    """All parts: number and ETag."""

    parts: list[tuple[PartNumber, ETag]] = Field(min_length=1, max_length=MOST_PARTS)


class FileSaved(StrictBody):
    """One file of a checkpoint, see `SavedFile`."""

    path: str = Field(min_length=1, max_length=4096)
    size: BigNumber
    mode: int = Field(ge=0, le=0o7777)
    mtime_ns: int = Field(ge=MIN_INTEGER, le=MAX_INTEGER)
    sha256: str = Field(pattern="^[0-9a-f]{64}$", max_length=64)

    @field_validator("path")
    @classmethod
    def _stays_below_the_work_folder(cls, path: str) -> str:
        if normalise(path) != path:
            raise ValueError(f"{path!r} is not a path relative to the work folder")
        return path


class Generation(StrictBody):
    """The files of a checkpoint."""

    files: list[FileSaved] = Field(min_length=1, max_length=MOST_FILES)


@router.post("/urls")
def urls(outputs: Outputs, body: Wanted) -> dict[str, str]:
    """New signed URLs for storing objects whole."""
    return outputs.urls(body.objects)


@router.post("/stored")
def stored(outputs: Outputs, body: Stored) -> dict[str, int]:
    """The size of an object as it is stored."""
    return {"size": outputs.stored_size(body.object)}


@router.post("/begin")
def begin(outputs: Outputs, body: Stored) -> dict[str, str]:
    """Begin an upload in parts."""
    return {"upload": outputs.begin(body.object)}


@router.post("/part")
def part(outputs: Outputs, body: PartWanted) -> dict[str, str]:
    """Where to send a part."""
    return {"url": outputs.part_url(body.object, body.upload, body.number)}


@router.post("/complete")
def complete(outputs: Outputs, body: Completion) -> dict[str, int]:
    """Make an object of its parts."""
    return {"size": outputs.complete(body.object, body.upload, body.parts)}


@router.post(_ABORT)
def abort(outputs: Outputs, body: Upload) -> dict[str, Any]:
    """Forget an upload in parts."""
    outputs.abort(body.object, body.upload)
    return {}


@router.post("/drop")
def drop(outputs: Outputs, body: Stored) -> dict[str, Any]:
    """Delete a slice of a live file."""
    outputs.drop_slice(body.object)
    return {}


@router.post(CHECKPOINT_VERB)
def save_checkpoint(outputs: Outputs, body: Generation) -> dict[str, int]:
    """Note a generation whose files are stored."""
    files = [SavedFile(**file.model_dump()) for file in body.files]
    return {"generation": outputs.save_checkpoint(files)}


@router.post("/checkpoints")
def checkpoints(outputs: Outputs) -> list[dict[str, Any]]:
    """The generations to go on from, newest first."""
    return outputs.checkpoints()
