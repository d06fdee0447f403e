"""What executors ask for while they hold an attempt: storing outputs and checkpoints."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator

from scheduler.api.bounded import AttemptNumber, BigNumber
from scheduler.api.deps import RuntimeDep
from scheduler.api.strict import StrictRouter
from scheduler.services.attempts.outputs import ROUTE, AttemptOutputs
from simherd.contract import limits
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
    # What an attempt that has lost its lease left half done, it may still clear away.
    fenced = not request.url.path.endswith(_ABORT)
    token = authorization.removeprefix("Bearer ")
    return AttemptOutputs(rt, task_id, attempt, token, fenced=fenced)


Outputs = Annotated[AttemptOutputs, Depends(get_outputs)]


_SLICE = rf"{LIVE_SLICE}[0-9a-f]{{32}}/[0-9]{{1,9}}"
_NAME = rf"^({OUTPUT}|{MANIFEST}|{CHECKPOINT_FILE}[0-9a-f]{{64}}|{_SLICE})$"
Name = Annotated[str, Field(pattern=_NAME, max_length=200)]
PartNumber = Annotated[int, Field(ge=1, le=MOST_PARTS)]
ETag = Annotated[str, Field(min_length=1, max_length=200, pattern="^[!-~]+$")]


class Stored(BaseModel):
    """One of the objects that an attempt may store."""

    model_config = ConfigDict(extra="forbid")
    object: Name = OUTPUT


class UrlsBody(BaseModel):
    """Several of them."""

    model_config = ConfigDict(extra="forbid")
    objects: list[Name] = Field(default=[OUTPUT, MANIFEST], max_length=1000)


class UploadBody(Stored):
    """An upload in parts."""

    upload: str = Field(min_length=1, max_length=2000, pattern="^[!-~]+$")


class PartWanted(UploadBody):
    """Which part is to be sent."""

    number: PartNumber


class Completion(UploadBody):
    """All parts: number and ETag."""

    parts: list[tuple[PartNumber, ETag]] = Field(min_length=1, max_length=MOST_PARTS)


class FileSaved(BaseModel):
    """One file of a checkpoint, see `SavedFile`."""

    model_config = ConfigDict(extra="forbid")
    path: str = Field(min_length=1, max_length=4096)
    size: BigNumber
    mode: int = Field(ge=0, le=0o7777)
    mtime_ns: int = Field(ge=limits.MIN_INTEGER, le=limits.MAX_INTEGER)
    sha256: str = Field(pattern="^[0-9a-f]{64}$", max_length=64)

    @field_validator("path")
    @classmethod
    def _stays_below_the_work_folder(cls, path: str) -> str:
        if normalise(path) != path:
            raise ValueError(f"{path!r} is not a path relative to the work folder")
        return path


class Generation(BaseModel):
    """The files of a checkpoint."""

    model_config = ConfigDict(extra="forbid")
    files: list[FileSaved] = Field(min_length=1, max_length=MOST_FILES)


@router.post("/urls")
def urls(outputs: Outputs, asked: UrlsBody) -> dict[str, str]:
    """New signed URLs for storing objects whole."""
    return outputs.urls(asked.objects)


@router.post("/stored")
def stored(outputs: Outputs, asked: Stored) -> dict[str, int]:
    """The size of an object as it is stored."""
    return {"size": outputs.stored_size(asked.object)}


@router.post("/begin")
def begin(outputs: Outputs, asked: Stored) -> dict[str, str]:
    """Begin an upload in parts."""
    return {"upload": outputs.begin(asked.object)}


@router.post("/part")
def part(outputs: Outputs, asked: PartWanted) -> dict[str, str]:
    """Where to send a part."""
    return {"url": outputs.part_url(asked.object, asked.upload, asked.number)}


@router.post("/complete")
def complete(outputs: Outputs, asked: Completion) -> dict[str, int]:
    """Make an object of its parts."""
    return {"size": outputs.complete(asked.object, asked.upload, asked.parts)}


@router.post(_ABORT)
def abort(outputs: Outputs, asked: UploadBody) -> dict[str, Any]:
    """Forget an upload in parts."""
    outputs.abort(asked.object, asked.upload)
    return {}


@router.post("/drop")
def drop(outputs: Outputs, asked: Stored) -> dict[str, Any]:
    """Delete a slice of a live file."""
    outputs.drop_slice(asked.object)
    return {}


@router.post(CHECKPOINT_VERB)
def save_checkpoint(outputs: Outputs, asked: Generation) -> dict[str, int]:
    """Note a generation whose files are stored."""
    files = [SavedFile(**file.model_dump()) for file in asked.files]
    return {"generation": outputs.save_checkpoint(files)}


@router.post("/checkpoints")
def checkpoints(outputs: Outputs) -> list[dict[str, Any]]:
    """The generations to go on from, newest first."""
    return outputs.checkpoints()
