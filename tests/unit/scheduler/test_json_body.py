"""JSON that two readers could understand differently, or that no part could keep (FAULTS B2)."""

from __future__ import annotations

import json

import pytest

from scheduler.api.json_body import MAX_JSON_DEPTH, BadJson, parse
from scheduler.api.limits import MAX_INTEGER

pytestmark = pytest.mark.fault("B2")


@pytest.mark.fault("B2")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 100_000, "nested"),
        (b"[" * 100_000 + b"]" * 100_000, "nested"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested"),
        (b"[" * 34 + b"]" * 34, "nested"),
        (b"[" + b"[]," * 600_000 + b"1]", "more than 500000 values"),
        (b'{"a": NaN}', "a: NaN"),
        (b'{"a": [1, Infinity]}', r"a\[1\]: Infinity"),
        (b'{"a": {"b": -Infinity}}', "a.b: -Infinity"),
        (b'{"a": 1e999}', "a: 1e999"),
        (b'{"a": 9223372036854775808}', "a: the integer"),
        (b'{"a": -9223372036854775809}', "a: the integer"),
        (b'{"a": ' + b"9" * 1_000_000 + b"}", "a: the integer"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' is there twice"),
        (b'{"x": [{"a": 1, "a": 1}]}', "'a' is there twice"),
        (b'{"a": "\\u0000"}', "a: .* NUL"),
        (b'{"a\\u0000": 1}', "NUL"),
        (b'{"a": ["\\ud800"]}', r"a\[0\]: .* surrogate"),
        (b'{"a": "\\udc00\\ud800"}', "a: .* surrogate"),
        (b'{"a": "\xff"}', "UTF-8 at byte 7"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} {"b": 2}', "not JSON"),
        (b'{"a": "\x00"}', "not JSON"),
    ],
    ids=range(26),
)
def test_ambiguous_json_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadJson, match=words):
        parse(data)


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -1.5, None, True, "\u202e \U0001f600 \n", MAX_INTEGER]},
        {"a\\u0000": "\\ud800"},
        "text",
        [],
        ",[{" * 300_000,
        ['\\",' * 300_000, '"' * 300_000],
    ],
)
def test_valid_json_is_read_unchanged(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


def test_the_deepest_that_is_read() -> None:
    depth = MAX_JSON_DEPTH
    assert parse(b"[" * depth + b"]" * depth)
