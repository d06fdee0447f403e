"""The word list (`python -m tests.support.prose`) holds, and says what it should."""

from __future__ import annotations

import re

import pytest

from tests.support.prose import WORDS, places

#: The number of places that a room may still have. Only ever lower a number.
BUDGET = {
    "docs": 0,
    "executor": 0,
    "scheduler": 0,
    "simherd": 0,
    "drills": 0,
}


@pytest.mark.parametrize("room", BUDGET)
def test_a_room_has_no_more_words_of_the_list_than_its_budget(room: str) -> None:
    found = places(room)
    shown = [f"{s.file}:{s.line}: {s.text} → {WORDS[pattern]}" for pattern, s in found]
    assert len(found) <= BUDGET[room], "\n".join(shown)


def matching(text: str) -> list[str]:
    return [pattern for pattern in WORDS if re.search(pattern, text)]


@pytest.mark.parametrize(
    "text",
    [
        "The store answers with a row.",
        "What a machine is told.",
        "This is no error.",
        "A thread of its own.",
        "Whoever holds the lease.",
        "It may not start.",
        "Who waits gets the status.",
        "The server is away.",
        "A machine that was not heard of.",
        "Started anew.",
    ],
)
def test_a_stumbling_block_is_found(text: str) -> None:
    assert matching(text)


@pytest.mark.parametrize(
    "text",
    [
        "Return the live answers of a machine.",
        "The answers to both questions.",
        "There is no such group.",
        "The task is no longer running.",
        "Who may import whom.",
        "A client that waits must not send.",
    ],
)
def test_plain_english_is_left_alone(text: str) -> None:
    assert matching(text) == []
