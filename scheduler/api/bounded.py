"""Types of fields and parameters with their bounds: nothing that a request holds is unlimited."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StrictStr

from scheduler.api.limits import (
    MAX_AMOUNT,
    MAX_FILE_PATH_CHARACTERS,
    MAX_INTEGER,
    MAX_NAME_CHARACTERS,
)
from simherd.contract import limits

#: Longest text of a task's metadata, characters.
METADATA_CHARACTERS = 1024
#: The last page of a list that can be asked for: with the largest page it is far from 2^63.
MAX_PAGE = 1_000_000
#: The last moment that a time in a request may name, seconds since the epoch: 9999-12-31.
MAX_INSTANT = 253_402_300_799
#: Names of machine groups: labels of host names (RFC 1123), since machines are named after them.
MAX_URL_CHARACTERS = 8192
#: Entries of metadata of a task or a project, and of a task's free parameters.
MAX_METADATA_ENTRIES = 1000
#: The longest time for which a key can be made, seconds (100 years).
MAX_KEY_S = 100 * 366 * 86400


class StrictBody(BaseModel):
    """A request body that is refused if it has unknown fields."""

    model_config = ConfigDict(extra="forbid")


#: A number of a page of a list, from 1 on.
Page = Annotated[int, Query(ge=1, le=MAX_PAGE)]
#: An id of ours, whatever it is of.
Id = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]
#: A name that a user chooses.
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]


def _shown(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters, line breaks and marks of direction cannot be shown")
    return text


#: A word that is shown to people and written into logs, such as a simulator's name.
Shown = Annotated[StrictStr, AfterValidator(_shown)]
#: A path in a storage or in a task's folder.
FilePath = Annotated[str, Field(min_length=1, max_length=MAX_FILE_PATH_CHARACTERS)]
#: An address; what it may lead to is checked where it is used.
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARACTERS)]
#: How many seconds something lasts, at the most as long as a task may live.
Seconds = Annotated[float, Field(ge=0, le=limits.MAX_TTL_S, allow_inf_nan=False)]
#: For how long a key is good, seconds.
KeySeconds = Annotated[float, Field(ge=0, le=MAX_KEY_S, allow_inf_nan=False)]
#: US$, or another amount.
Amount = Annotated[float, Field(ge=0, le=MAX_AMOUNT, allow_inf_nan=False)]
#: Seconds since the epoch.
Instant = Annotated[float, Field(ge=0, le=MAX_INSTANT, allow_inf_nan=False)]
#: The number of an attempt of a task: SQL's INTEGER.
AttemptNumber = Annotated[int, Field(ge=0, le=2**31 - 1)]
#: Bytes, or a number of a row.
BigNumber = Annotated[int, Field(ge=0, le=MAX_INTEGER)]


def _since_1970(at: datetime) -> datetime:
    if at < datetime.fromtimestamp(0, UTC):
        raise ValueError("times begin with 1970-01-01T00:00:00Z")
    return at


#: A time with its offset, from 1970 on.
Time = Annotated[AwareDatetime, AfterValidator(_since_1970)]

#: A key and a text that are kept with a task or a project.
MetadataKey = Annotated[StrictStr, Field(min_length=1, max_length=METADATA_CHARACTERS)]
MetadataText = Annotated[StrictStr, Field(max_length=METADATA_CHARACTERS)]
Metadata = Annotated[dict[MetadataKey, MetadataText], Field(max_length=MAX_METADATA_ENTRIES)]
#: Parameters that are checked one by one where they are used, and bounded by the body's size.
Parameters = Annotated[dict[str, Any], Field(max_length=MAX_METADATA_ENTRIES)]
