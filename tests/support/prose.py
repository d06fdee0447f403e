"""The word list: words that a reader would stumble over, each with its plain replacement.

Print the number of places per pattern and room, and each place (of one room, where it is named):

    python -m tests.support.prose [ROOM]
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scripts.pages.import_graph import nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]

#: A pattern that must not occur, and what to write.
WORDS = {
    r"(?<!live )(?<![Tt]he )(?<!no )(?<!of )\banswer(s|ed)\b": "returns, replies, handles",
    r"\b(told|tells?|telling)\b": "reports, notifies, sends",
    r"(?<![Tt]here )\b(is|are|was|were) no (?!longer|more than|less than|later)": "is not a",
    r"\bof (its|their|his|our|one's) own\b": "name the owner, or `separate`",
    r"\b[Ww]hoever\b": "a client that, any process that",
    r"\bmay not\b": "must not, cannot",
    r"(?:^|[.:] )Who (?!may|can|does what)[a-z]+s? [^?]*$": "A client that …, An operator who …",
    r"\b(is|are|was|were|stays?) away\b": "is unavailable",
    r"\b(hear|hears|heard) of\b": "receives a report of, is notified of",
    r"\b(anew|in vain|lest|thereby|hitherto|whence|wherewith)\b": "a word of today",
    r"\bowns? up\b": "reports",
    r"\bgoes without\b": "does not have",
}
_ANY = re.compile("|".join(WORDS))
#: Pages that a script writes: their words are checked where they are typed. The generated
#: reference of the command line repeats docstrings.
GENERATED = {"lifecycle.md", "metrics.md", "faults.md", "http.md", "cli.md", "conformance.md"}
#: The rooms of the product, by their folder.
ROOMS = {"executor": "executor", "scheduler": "scheduler", "simherd": "simherd", "drills": "drills"}


class Sentence(NamedTuple):
    """One line of prose, and where it stands."""

    file: str
    line: int
    text: str


class Place(NamedTuple):
    """An occurrence of a pattern."""

    pattern: str
    sentence: Sentence


def places(room: str) -> list[Place]:
    """Return each occurrence in a room: `docs`, or a key of `ROOMS`."""
    return [
        Place(pattern, sentence)
        for sentence in (_docs() if room == "docs" else _code(ROOMS[room]))
        if _ANY.search(sentence.text)
        for pattern in WORDS
        if re.search(pattern, sentence.text)
    ]


def _docs() -> Iterator[Sentence]:
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
    for page in (REPOSITORY / "docs").rglob("*.md"):
        if page.name not in GENERATED and page.parent.name != "decisions":
            pages.append(page)
    for page in sorted(pages):
        is_code = False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            is_code ^= line.startswith("```")
            if not is_code:
                yield _sentence(page, number, re.sub(r"`[^`]*`|\]\([^)]*\)", "…", line))


def _code(folder: str) -> Iterator[Sentence]:
    """Return docstrings, comments and strings of several words, line by line.

    Revisions of the database stay as they were released.
    """
    for file in sorted((REPOSITORY / folder).rglob("*.py")):
        if file.parent.name == "versions":
            continue
        text = file.read_text()
        for node in nodes(file):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            if " " in node.value:
                for offset, line in enumerate(node.value.splitlines()):
                    yield _sentence(file, node.lineno + offset, line)
        for number, line in enumerate(text.splitlines(), 1):
            if comment := re.search(r"(?:^|  )# .*|^ *#: .*", line):
                yield _sentence(file, number, comment.group().lstrip(" #:"))


def _sentence(file: Path, line: int, text: str) -> Sentence:
    return Sentence(file.relative_to(REPOSITORY).as_posix(), line, text.strip())


def main() -> None:
    """Print the counts and the places."""
    rooms = sys.argv[1:] or ["docs", *ROOMS]
    for room in rooms:
        found = places(room)
        for pattern, sentence in found:
            print(f"{sentence.file}:{sentence.line}: {sentence.text}  → {WORDS[pattern]}")
        print(f"\n{room}: {len(found)}")
        for pattern, number in Counter(place.pattern for place in found).most_common():
            print(f"  {number:5}  {pattern}")
        print()


if __name__ == "__main__":
    main()
