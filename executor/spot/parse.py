"""Reading what a source sent, which may be junk."""

from __future__ import annotations

import json
import math
from typing import Any

from executor.spot.notice import SourceError

#: Seconds from now within which a machine may be reclaimed. Every cloud warns minutes ahead; one
#: day leaves room for clocks and time zones that are set wrongly to be seen as what they are.
FARTHEST_S = 86_400.0


def fields_of(text: str) -> dict[str, Any]:
    """Return the fields of a JSON object. Raises SourceError when the text is not one."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"not JSON but {_short(text)}") from error
    if not isinstance(fields, dict):
        raise SourceError(f"not a JSON object but {_short(text)}")
    return fields


def text_of(fields: dict[str, Any], field: str) -> str:
    """Return a field that is text. Raises SourceError when it is missing or not text."""
    value = fields.get(field)
    if not isinstance(value, str):
        raise SourceError(f"{field} is {_short(repr(value))}, which is not text")
    return value


def seconds_of(fields: dict[str, Any], field: str) -> float:
    """Return a field that is a number. Raises SourceError when it is missing or not a number."""
    value = fields.get(field)
    # For Python a truth value is a number, and so is an integer that no float can hold.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise SourceError(f"{field} is {_short(repr(value))}, which is not a number of seconds")
    return float(value)


def believable(reclaim_at: float, now: float) -> float:
    """Return the same time; both in seconds since the epoch. Raises SourceError: it is more than a
    day before or after now, so that it cannot be a notice of today."""
    if not math.isfinite(reclaim_at) or abs(reclaim_at - now) > FARTHEST_S:
        raise SourceError(f"reclaims {reclaim_at - now:+.0f} s from now, which is not believable")
    return reclaim_at


def _short(text: str) -> str:
    return repr(text[:80])
