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
    """A task in the contract's words; what the contract does not have is said so."""

    simulator: Shown = Field(min_length=1, max_length=128)
    simulator_name_alias: Shown | None = Field(default=None, max_length=128)
    #: Without it, the task goes to the default group: `GET /v1/default-group`.
    resource_pool: StrictStr | None = Field(default=None, min_length=1, max_length=128)
    storage_path_prefix: StrictStr = Field(default="", max_length=512)
    project: StrictStr | None = Field(default=None, min_length=1, max_length=128)
    container_image: Shown = Field(min_length=1, max_length=512)
    time_to_live_seconds: float | None = Field(
        default=None, gt=0, le=limits.MAX_TTL_S, allow_inf_nan=False
    )
    resubmit_on_preemption: bool = False
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
        """What is body for, under the client's key."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return NewTask(
            group_id=self.resource_pool,
            simulator=self.simulator,
            simulator_alias=self.simulator_name_alias,
            container_image=self.container_image,
            storage_prefix=self.storage_path_prefix,
            project=self.project,
            time_to_live_s=self.time_to_live_seconds,
            max_cost=self.max_cost,
            resubmit=self.resubmit_on_preemption,
            stream_zip=self.stream_zip,
            compress_with=self.compress_with,
            input_resources=self.input_resources,
            shared_inputs=self.shared_inputs,
            has_input=self.has_input,
            priority=self.priority,
            metadata=self.metadata,
            extra_params=self.extra_params,
            client_key=None if key is None else ClientKey(key, digest),
        )


class KeyedRequest(TaskRequest):
    """One of a batch."""

    client_key: Key | None = None

    def keyed(self) -> NewTask:
        """What is body for."""
        plain = TaskRequest.model_validate(self.model_dump(exclude={"client_key"}))
        return plain.submission(self.client_key)
