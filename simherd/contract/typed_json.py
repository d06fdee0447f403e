"""Dataclasses as JSON objects, read by the types of their fields.

A field that the JSON lacks has its default; one that the dataclass lacks is from a later release,
and is left out.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")

_WORDS = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}


class WrongJson(ValueError):
    """A text or a value cannot be read; the message names the field and the value."""


def to_json(value: Any) -> str:
    """Return the JSON of a dataclass."""
    # Not `asdict`, which copies everything first: this is most of what filling a queue costs.
    return json.dumps(vars(value), default=vars, separators=(",", ":"))


def parse_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Return the JSON object in a text; `name` says in an error what it should have been.
    Raises WrongJson: the text is not JSON, or not an object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongJson(f"{name}: is not JSON ({error}).") from None
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    return value


def from_json(kind: type[_T], value: Any, name: str = "") -> _T:
    """Return a value of JSON as the dataclass, Enum, or plain type `kind`; see `_read`.
    Raises WrongJson: naming the field."""
    result: _T = _read(kind, value, name or kind.__name__)
    return result


def _read(kind: Any, value: Any, name: str) -> Any:
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):  # with None, and nothing else
        inner = next(argument for argument in arguments if argument is not NoneType)
        return None if value is None else _read(inner, value, name)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(name, "a list", value)
        return tuple(_read(arguments[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    if origin is dict or is_dataclass(kind):
        if not isinstance(value, dict):
            raise _wrong(name, "an object", value)
        if origin is dict:
            return {key: _read(arguments[1], v, f"{name}.{key}") for key, v in value.items()}
        return _read_fields(kind, value, name)
    if issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise _wrong(name, "one of " + ", ".join(m.value for m in kind), value) from None
    # A truth value is an `int` to Python.
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise _wrong(name, _WORDS[kind], value)


def _read_fields(kind: Any, value: dict[str, Any], name: str) -> Any:
    found = {}
    for field, field_type, is_required in _fields_of(kind):
        if field in value:
            found[field] = _read(field_type, value[field], f"{name}.{field}")
        elif is_required:
            raise WrongJson(f"{name}.{field}: is missing.")
    return kind(**found)


@cache
def _fields_of(kind: Any) -> list[tuple[str, Any, bool]]:
    """Return name, type, and whether there is no default, for each field of a dataclass."""
    types = get_type_hints(kind)
    return [
        (f.name, types[f.name], f.default is MISSING and f.default_factory is MISSING)
        for f in fields(kind)
    ]


def _wrong(name: str, needed: str, value: Any) -> WrongJson:
    return WrongJson(f"{name}: {needed} is needed, not {value!r:.200}.")
