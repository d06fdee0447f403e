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
from typing import TYPE_CHECKING, Any

from simherd.contract import limits

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Escapes that may stand for a NUL or for half of a character; such bodies are looked through.
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
#: What no text may hold.
REFUSED_CHARACTERS = re.compile("[\0\ud800-\udfff]")
#: Characters of a value that an error repeats.
_SHOWN = 40


class BadJson(ValueError):
    """The body cannot be taken; the message names the place and says what is allowed."""


def parse(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        BadJson: it is not JSON in UTF-8; an object has a name twice; values are nested deeper than
            `limits.MAX_JSON_DEPTH`; a number is not finite, or an integer does not fit 64 bits; a
            text has a NUL or half of a surrogate pair.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadJson(f"it is not UTF-8 at byte {error.start}") from error
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_number,
        )
    except RecursionError as error:
        raise BadJson(_too_deep()) from error
    except json.JSONDecodeError as error:
        raise BadJson(f"it is not JSON: {error}") from error
    is_suspect = _SUSPECT.search(text) is not None
    for depth, level in enumerate(_levels(value)):
        if depth > limits.MAX_JSON_DEPTH:
            raise BadJson(_too_deep())
        if is_suspect:
            _check_texts(level)
    return value


def _too_deep() -> str:
    return f"values are nested deeper than {limits.MAX_JSON_DEPTH}, the most that is read"


def _levels(value: Any) -> Iterator[list[Any]]:
    """The values at each depth, from the outside in."""
    level = [value]
    while level:
        yield level
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]


def _check_texts(level: list[Any]) -> None:
    for value in level:
        texts = [value] if isinstance(value, str) else value if isinstance(value, dict) else ()
        for text in texts:
            if REFUSED_CHARACTERS.search(text):
                raise BadJson(
                    f"the text {text[:_SHOWN]!r} has a NUL character or half of a surrogate pair"
                )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise BadJson(f"the name {twice[:_SHOWN]!r} is there twice in one object")
    return made


def _constant(name: str) -> Any:
    raise BadJson(f"{name} is not a number in JSON")


def _integer(text: str) -> int:
    # The length first: the time that a conversion takes grows with its square.
    if len(text) > len(str(limits.MIN_INTEGER)) or not (
        limits.MIN_INTEGER <= int(text) <= limits.MAX_INTEGER
    ):
        raise BadJson(f"the integer {text[:_SHOWN]} does not fit 64 bits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadJson(f"the number {text[:_SHOWN]} is too large")
    return value
