"""A task to be submitted, as requests have it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, StrictStr

from scheduler.api.bounded import Metadata, Parameters, Shown, StrictBody
from scheduler.api.limits import MAX_AMOUNT, MAX_FILE_PATH_CHARACTERS
from scheduler.api.patterns import PRINTABLE
from scheduler.services.tasks.submit import ClientKey, NewTask
from simherd.contract import limits

#: A path in the user's storage.
Path = Annotated[StrictStr, Field(max_length=MAX_FILE_PATH_CHARACTERS)]
#: What a client calls a submission: printable ASCII, as HTTP headers take it.
Key = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)]


class TaskRequest(StrictBody):
    """A task; the aliases are the contract's words, the names those of `NewTask`."""

    simulator: Shown = Field(min_length=1, max_length=128)
    simulator_alias: Shown | None = Field(
        default=None, max_length=128, alias="simulator_name_alias"
    )
    #: Without it, the task goes to the default group: `GET /v1/default-group`.
    group_id: StrictStr | None = Field(
        default=None, min_length=1, max_length=128, alias="resource_pool"
    )
    storage_prefix: StrictStr = Field(default="", max_length=512, alias="storage_path_prefix")
    project: StrictStr | None = Field(default=None, min_length=1, max_length=128)
    container_image: Shown = Field(min_length=1, max_length=512)
    time_to_live_s: float | None = Field(
        default=None,
        gt=0,
        le=limits.MAX_TTL_S,
        allow_inf_nan=False,
        alias="time_to_live_seconds",
    )
    resubmit: bool = Field(default=False, alias="resubmit_on_preemption")
    input_resources: list[Path] = Field(default_factory=list, max_length=1000)
    stream_zip: bool = True
    compress_with: Literal["AUTO", "SEVEN_Z", "NONE"] = "SEVEN_Z"
    extra_params: Parameters = Field(default_factory=dict)
    #: US$; beyond the contract, as all that follows.
    max_cost: float | None = Field(default=None, gt=0, le=MAX_AMOUNT, allow_inf_nan=False)
    priority: int = Field(default=0, ge=-100, le=100)
    shared_inputs: list[Path] = Field(default_factory=list, max_length=100)
    has_input: bool = True
    metadata: Metadata = Field(default_factory=dict)

    def submission(self, key: str | None) -> NewTask:
        """The task that it asks for, under the client's key."""
        digest = hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()
        return NewTask(**dict(self), client_key=None if key is None else ClientKey(key, digest))


class KeyedRequest(TaskRequest):
    """One of a batch."""

    client_key: Key | None = None

    def keyed(self) -> NewTask:
        """The task that it asks for."""
        plain = TaskRequest.model_validate(self.model_dump(exclude={"client_key"}, by_alias=True))
        return plain.submission(self.client_key)
