"""What pydantic says of settings that are wrong, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.config import Ec2Settings, Settings
from scheduler.preflight.finding import EC2_PREFIX, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError


def refusals(error: ValidationError) -> Iterator[str]:
    """What pydantic says of settings that are wrong, a line for each: variable, reason, value."""
    prefix = EC2_PREFIX if error.title == Ec2Settings.__name__ else PREFIX
    for row in error.errors():
        said = row["msg"].removeprefix("Value error, ")
        if not row["loc"]:
            yield said
            continue
        name = f"{prefix}{'.'.join(map(str, row['loc'])).upper()}"
        if row["type"] == "missing":
            yield f"{name}: it is not set, and there is no default"
            continue
        yield f"{name}: {said}{_given(str(row['loc'][0]), row)}"


def _given(field: str, row: Any) -> str:
    """The value that was given, and how its unit is spelled; nothing of a secret."""
    known = {**Settings.model_fields, **Ec2Settings.model_fields}.get(field)
    if known is None or "Secret" in str(known.annotation) or not isinstance(row["input"], str):
        return ""
    unit = ""
    if field.endswith("_s") and row["type"] == "float_parsing":
        unit = ". It is a number of seconds, without a unit: 90, not 90s or 1.5m"
    return f", not {row['input'][:80]!r}{unit}"
