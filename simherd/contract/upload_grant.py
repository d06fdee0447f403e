"""Uploads of outputs in parts: the size of each part, and the grant for an executor.

S3 takes at most 10,000 parts of 5 MiB to 5 GiB, all but the last of any size (Amazon S3 user
guide, "Amazon S3 multipart upload limits"). The size of an upload is not known when it begins, so
the parts grow: small outputs need little memory, and 1.4 TB still fit.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024**2
#: The first part of each step, and the size of its parts.
_STEPS = ((1, 8 * MIB), (1001, 32 * MIB), (5001, 256 * MIB))
MOST_PARTS = 10_000
#: Bytes of the smallest part that S3 accepts, apart from the last one.
LEAST_PART_BYTES = 5 * MIB
#: Start of the verb for a part in a signed URL of the folder storage, before id and number.
PART_VERB = "part"


def part_size(number: int) -> int:
    """Return the bytes of part `number`, from 1; the last part of an upload may be shorter."""
    return next(size for first, size in reversed(_STEPS) if number >= first)


def part_offset(number: int) -> int:
    """Return the offset of part `number` in the whole."""
    offset = 0
    for (first, size), (following, _) in zip(
        _STEPS, (*_STEPS[1:], (MOST_PARTS + 1, 0)), strict=True
    ):
        offset += size * max(0, min(number, following) - first)
    return offset


@dataclass(frozen=True)
class Grant:
    """The right of an executor to store the outputs of one attempt: a URL and its secret."""

    url: str
    token: str
