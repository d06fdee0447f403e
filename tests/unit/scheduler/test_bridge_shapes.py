"""What the published client is sent: its shapes, and that it fits into a message."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scheduler.bridge.formats import Lines, in_messages, last_message, tree
from scheduler.bridge.peer import BRIDGE_LEAST_MESSAGE_BYTES
from simherd.contract.webrtc_channel import Reply, ReplyStatus

_MOST = BRIDGE_LEAST_MESSAGE_BYTES
_texts = st.lists(st.text() | st.sampled_from(["\n", "a\n", "x" * 12_000, "𝄞" * 6000 + "\n"]))


def entry(name: str, kind: str = "file") -> dict[str, Any]:
    return {"name": name, "kind": kind}


def size(message: Any) -> int:
    return len(Reply(ReplyStatus.SUCCESS, message).encode())


def test_folders_hold_what_is_in_them_also_where_only_files_are_listed() -> None:
    folders = [entry("a", "folder"), entry("a/b", "folder")]
    live = [*folders, entry("a/b/c"), entry("d"), entry("e", "link")]
    assert tree(live, _MOST, truncated=False) == [{"a": [{"b": ["c"]}]}, "d", "e"]
    saved = [entry("d"), entry("a/b/c"), entry("a/f")]
    assert tree(saved, _MOST, truncated=False) == ["d", {"a": [{"b": ["c"]}, "f"]}]
    assert tree([], _MOST, truncated=False) == []


def test_a_list_says_that_it_is_not_whole() -> None:
    assert tree([entry("a")], _MOST, truncated=True)[-1] == "(there are more: not all are shown)"


def test_folders_that_are_too_deep_for_json_are_named_by_their_path() -> None:
    deep = "/".join("d" * 1500)
    found = tree([entry(deep, "folder"), entry(f"{deep}/f")], _MOST, truncated=False)
    assert json.dumps(found).count("[") < 100


_paths = st.lists(st.text("aä𝄞", min_size=1, max_size=99), min_size=1, max_size=9)


@given(st.lists(_paths, max_size=30))
def test_a_list_fits(names: list[list[str]]) -> None:
    entries = [entry("/".join(n), kind) for n in names for kind in ("folder", "file")]
    assert size(tree(entries, 1024, truncated=False)) <= 1024


def test_a_long_list_fits_and_shows_as_many_as_it_can() -> None:
    found = tree([entry(f"{i:040}") for i in range(10_000)], _MOST, truncated=False)
    assert 0.85 * _MOST < size(found) <= _MOST


@given(_texts)
def test_pieces_become_the_lines_of_the_whole(pieces: list[str]) -> None:
    lines = Lines()
    found = [line for text in pieces for line in lines.add({"text": text})] + lines.rest()
    assert "".join(found) == "".join(pieces).replace("\n", "")


def test_lines_end_where_they_end_in_the_file() -> None:
    lines = Lines()
    assert [*lines.add({"text": "a\n\nb"}), *lines.add({"text": "c\nd"})] == ["a", "", "bc"]
    assert lines.rest() == ["d"]
    assert lines.rest() == []


@given(_texts)
def test_lines_fit_into_messages(pieces: list[str]) -> None:
    lines = Lines()
    found = [line for text in pieces for line in lines.add({"text": text})] + lines.rest()
    messages = list(in_messages(found, _MOST))
    assert [line for message in messages for line in message] == found
    assert all(message and size(message) <= _MOST for message in messages)
    last = last_message(found, _MOST)
    assert last == found[len(found) - len(last) :]
    assert bool(last) == bool(found)


def test_gaps_are_named() -> None:
    lines = Lines()
    assert lines.add({"text": "a\nb", "skipped": 0}) == ["a"]
    assert lines.add({"text": "c\n", "skipped": 7}) == ["b", "(7 bytes are left out)", "c"]
    assert lines.add({"text": "half", "anew": False}) == []
    assert lines.add({"text": "new\n", "anew": True}) == ["half", "(the file begins again)", "new"]
