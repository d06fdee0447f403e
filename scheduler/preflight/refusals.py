"""What pydantic says of settings that are wrong, for operators."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_origin

from scheduler.config import Ec2Settings, Settings
from scheduler.preflight.finding import EC2_PREFIX, PREFIX
from scheduler.preflight.urls import without_credentials
from simherd.runtime.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

#: The form of each setting that is JSON.
_EXAMPLES = {
    "default_quotas": '{"max_instances": 8, "max_storage_gb": null}',
    "max_machines": '{"ec2": 40, "docker": 8}',
    "redis_servers": '{"second": {"url": "redis://:PASSWORD@HOST:6379/0"}}',
    "machine_types": '{"c2-standard-4": "c6i.xlarge"}',
}
#: A setting that is one of a few words, as `scheduler/config.py` has it.
_CHOICES = re.compile(r"\^\((\w+(?:\|\w+)*)\)\$")
_FIELD = re.compile(r'field "(\w+)"')


def refusals(error: ValidationError) -> Iterator[str]:
    """What pydantic says of settings that are wrong, a line for each: variable, reason, value."""
    prefix = EC2_PREFIX if error.title == Ec2Settings.__name__ else PREFIX
    for row in error.errors():
        said = row["msg"].removeprefix("Value error, ")
        if not row["loc"]:
            yield said
            continue
        # Keys of JSON as they are written.
        name = ".".join([str(row["loc"][0]).upper(), *map(str, row["loc"][1:])])
        if row["type"] == "missing":
            yield f"{prefix}{name}: it is not set, and there is no default"
            continue
        field = str(row["loc"][0])
        # What our own checks say holds the value, or is a secret's.
        if row["type"] != "value_error":
            said = f"{_kind(row)}{_given(field, row)}{_form(field, row)}"
        yield f"{prefix}{name}: {one_line(said)}"


def not_json(error: SettingsError) -> str:
    """A line for a setting that had to be JSON: variable, reason, form; nothing of its value."""
    match = _FIELD.search(str(error))
    field = match[1] if match else ""
    prefix = PREFIX if field in Settings.model_fields else EC2_PREFIX
    says = f": {error.__cause__}" if error.__cause__ is not None else ""
    form = f". Write for example {_EXAMPLES[field]}" if field in _EXAMPLES else ""
    return f"{prefix}{field.upper()}: it is not JSON{one_line(says)}{form}"


def one_line(text: str) -> str:
    """The text on one line, without users and passwords of URLs."""
    return without_credentials(" ".join(text.split()))


def _kind(row: Any) -> str:
    """What the value must be."""
    if row["type"] != "string_pattern_mismatch":
        return str(row["msg"])
    pattern = row["ctx"]["pattern"]
    if pattern == "^https?://":
        return "it must be a URL that begins with http:// or https://"
    choices = _CHOICES.fullmatch(pattern)
    return f"it must be {choices[1].replace('|', ' or ')}" if choices else str(row["msg"])


def _given(field: str, row: Any) -> str:
    """The value that was given; nothing of a secret."""
    given = row["input"]
    if _is_secret(field) or not isinstance(given, str | int | float):
        return ""
    return f", not {redact(without_credentials(str(given)))[:80]!r}"


def _form(field: str, row: Any) -> str:
    if field in _EXAMPLES:
        return f". Write for example {_EXAMPLES[field]}"
    if row["type"] == "float_parsing" and field.endswith("_s"):
        return ". It is a number of seconds, without a unit: 90, not 90s or 1.5m"
    if row["type"] == "bool_parsing":
        return ". Write true or false"
    return ""


def _is_secret(field: str) -> bool:
    """Whether a setting is a secret, or JSON with secrets in it."""
    known = {**Settings.model_fields, **Ec2Settings.model_fields}.get(field)
    if known is None:
        return True
    is_own_json = get_origin(known.annotation) is dict and "RedisServer" in str(known.annotation)
    return is_own_json or "Secret" in str(known.annotation)
