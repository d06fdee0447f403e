"""Results of services in the formats that the published client shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from simherd.contract.live_frames import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: A file's name, or a folder's with what is in it.
Node = str | dict[str, list[Any]]

#: Bytes that a character takes in JSON at the most: two escapes.
_CHARACTER = 12
#: Characters of a line; a longer one is broken, so that it fits into every message.
_LINE = 5000
#: Folders within each other that are nested; what lies deeper is named by its path from there.
_NESTED = 64
#: Bytes of a message for what is around its content.
_AROUND = 256


def tree(entries: Iterable[dict[str, Any]], most: int, *, truncated: bool) -> list[Node]:
    """The entries of a list of files as nested lists of at most `most` bytes; what is left out is
    said in a last line."""
    root: list[Node] = []
    folders: dict[tuple[str, ...], list[Node]] = {(): root}
    left = most - _AROUND
    for entry in entries:
        path = tuple(entry["name"].split("/", _NESTED))
        inside = path if entry["kind"] == FileKind.FOLDER else path[:-1]
        levels = (path[:depth] for depth in range(1, len(inside) + 1))
        new = [here for here in levels if here not in folders]
        names = [here[-1] for here in new] + list(path[len(inside) :])
        left -= sum(map(_bytes, names))
        if left < 0:
            truncated = True
            break
        for here in new:
            folders[here] = []
            folders[here[:-1]].append({here[-1]: folders[here]})
        folders[inside] += path[len(inside) :]
    if truncated:
        root.append("(there are more: not all are shown)")
    return root


def _bytes(name: str) -> int:
    """What a name takes at the most, with the brackets of a folder: `{"name":[]},`."""
    return len(json.dumps(name)) + 6


class Lines:
    """Makes lines of pieces of text."""

    def __init__(self) -> None:
        self._rest = ""

    def add(self, piece: dict[str, Any]) -> list[str]:
        """The lines that a piece of a file, see `FrameKind.TEXT`, completes."""
        lines: list[str] = []
        if piece.get("anew"):
            lines += [*self.rest(), "(the file begins again)"]
        elif piece.get("skipped"):
            lines += [*self.rest(), f"({piece['skipped']} bytes are left out)"]
        *whole, self._rest = (self._rest + piece["text"]).split("\n")
        lines += (part for line in whole for part in _broken(line))
        if len(self._rest) > _LINE:
            *parts, self._rest = _broken(self._rest)
            lines += parts
        return lines

    def rest(self) -> list[str]:
        """A last line without an end."""
        rest, self._rest = self._rest, ""
        return [rest] if rest else []


def _broken(line: str) -> Iterator[str]:
    yield line[:_LINE]
    for start in range(_LINE, len(line), _LINE):
        yield line[start : start + _LINE]


def in_messages(lines: list[str], most: int) -> Iterator[list[str]]:
    """Lines in as many messages as it takes, of at most `most` bytes each."""
    some: list[str] = []
    size = _AROUND
    for line in lines:
        length = len(json.dumps(line)) + 1
        if some and size + length > most:
            yield some
            some, size = [], _AROUND
        some.append(line)
        size += length
    if some:
        yield some


def cut(text: str, most: int) -> str:
    """The beginning of a text that fits into a message of `most` bytes."""
    return text[: (most - _AROUND) // _CHARACTER]


def last_message(lines: list[str], most: int) -> list[str]:
    """The last of some lines, as many as one message of at most `most` bytes holds."""
    return next(in_messages(lines[::-1], most), [])[::-1]
