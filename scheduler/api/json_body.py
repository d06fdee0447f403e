"""JSON bodies, read strictly: what two readers could understand differently is refused.

RFC 8259 leaves duplicate names, halves of surrogate pairs and the range of numbers to the reader.
What is refused here is what a part behind the API could not keep: PostgreSQL takes no NUL in a
text, SQL no integer of more than 64 bits, and no part a number that is not finite.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scheduler.api.limits import MAX_INTEGER, MIN_INTEGER

if TYPE_CHECKING:
    from collections.abc import Callable

#: How deep the values of a JSON body may be nested: ours need 6, and readers that call themselves
#: for each level run out of stack at some hundred.
MAX_JSON_DEPTH = 32
#: Values in a JSON body: the longest lists, of a checkpoint's files, have 50,000 with their fields;
#: a megabyte of empty lists takes 20 of memory.
MAX_JSON_VALUES = 500_000

#: Escapes that may stand for a NUL or for half of a character; such bodies are looked through.
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
#: Numbers that may be too large, or digits of a text.
_LARGE = re.compile(r"[0-9]{19}|[eE]\+?[0-9]{3}")
#: A text, with its quotes; one that does not end ends what is looked at.
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
#: What no text may hold.
REFUSED_CHARACTERS = re.compile("[\0\ud800-\udfff]")
#: Characters of a value that an error repeats.
_SHOWN = 40


class BadJson(ValueError):
    """The body cannot be taken; the message names the place and says what is allowed."""


@dataclass(frozen=True)
class _Bad:
    """Stands for a number that cannot be kept, until its place is known."""

    why: str


def parse(data: bytes) -> Any:
    """The value of a JSON text.

    Raises BadJson: it is not JSON in UTF-8; it has more than `MAX_JSON_VALUES`, or they are
    nested deeper than `MAX_JSON_DEPTH`; an object has a name twice; a number is not finite,
    or an integer does not fit 64 bits; a text has a NUL or half of a surrogate pair.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadJson(f"it is not UTF-8 at byte {error.start}") from error
    _check_count(text)
    bad_numbers: list[_Bad] = []

    def checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
        def hook(given: str) -> Any:
            value = read(given)
            if isinstance(value, _Bad):
                bad_numbers.append(value)
            return value

        return hook

    # Without large numbers the library's own, quick readers do.
    has_large = _LARGE.search(text) is not None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=checked(lambda name: _Bad(f"{name} is not a number in JSON")),
            parse_int=checked(_integer) if has_large else None,
            parse_float=checked(_number) if has_large else None,
        )
    except RecursionError as error:
        raise BadJson(_too_deep()) from error
    except json.JSONDecodeError as error:
        raise BadJson(f"it is not JSON: {error}") from error
    _check_depth(value)
    if bad_numbers or _SUSPECT.search(text):
        _check_values(value)
    return value


def _check_count(text: str) -> None:
    """Refuse what would take much more memory than its text: an empty list takes 60 bytes."""

    def count(text: str) -> int:
        return text.count(",") + text.count("[") + text.count("{")

    # Most bodies have few even where what is within texts is counted.
    if count(text) > MAX_JSON_VALUES < count(_TEXT.sub("", text)):
        raise BadJson(f"it has more than {MAX_JSON_VALUES} values")


def _too_deep() -> str:
    return f"values are nested deeper than {MAX_JSON_DEPTH}, the most that is read"


def _check_depth(value: Any) -> None:
    """Refuse what readers that call themselves for each level would not come out of."""
    level, depth = [value], 0
    while level:
        if depth > MAX_JSON_DEPTH:
            raise BadJson(_too_deep())
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        depth += 1


def _check_values(value: Any, place: str = "") -> None:
    """Refuse the first number or text that cannot be kept, by its place."""
    if isinstance(value, _Bad):
        raise BadJson(f"{place or 'it'}: {value.why}")
    if isinstance(value, str) and REFUSED_CHARACTERS.search(value):
        shown = value[:_SHOWN]
        raise BadJson(f"{place or 'it'}: {shown!r} has a NUL character or half of a surrogate pair")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_values(name, place)
            _check_values(inner, f"{place}.{name[:_SHOWN]}".lstrip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_values(inner, f"{place}[{index}]")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise BadJson(f"the name {twice[:_SHOWN]!r} is there twice in one object")
    return value


def _integer(text: str) -> int | _Bad:
    # The length first: the time that a conversion takes grows with its square.
    if len(text) > len(str(MIN_INTEGER)) or not (MIN_INTEGER <= int(text) <= MAX_INTEGER):
        return _Bad(f"the integer {text[:_SHOWN]} does not fit 64 bits")
    return int(text)


def _number(text: str) -> float | _Bad:
    value = float(text)
    return value if math.isfinite(value) else _Bad(f"{text[:_SHOWN]} is too large a number")
