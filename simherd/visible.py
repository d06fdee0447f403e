"""Text of others on a terminal: what would steer the terminal, or hide in it, is shown escaped.

A simulation, a machine and another user choose what logs, names and errors contain. A terminal
obeys the control sequences in them: it moves the cursor, changes the title, responds as if somebody
had typed. Everything that is printed for people goes through this module: the Python client by
`say`, the command line by `simherd.cli.render.echo`.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from typing import TextIO

#: Printable ASCII needs no second look, and neither do line feeds and tabs.
_UNUSUAL = re.compile(r"[^\n\t\x20-\x7e]")
#: Control, format (bidi overrides, zero-width characters), surrogate and private-use characters,
#: and the separators of lines and paragraphs that only some programs know.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
#: Letters and marks that have no shape: Unicode's Default_Ignorable_Code_Point, without the
#: variation selectors that emoji end with.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
#: The plane of tags and variation selectors, of which much is not assigned yet.
_TAGS = range(0xE0000, 0xE1000)
_LINE_ENDS = re.compile(r"\r+\n?")
#: What belongs to a line's end that the piece before has begun.
_LINE_END_GOES_ON = re.compile(r"\A\r*\n?")
_SHORT = {"\r": r"\r", "\n": r"\n", "\t": r"\t"}


@functools.lru_cache(maxsize=4096)
def _shown(character: str) -> str:
    hidden = (
        unicodedata.category(character) in _HIDDEN_CATEGORIES
        or character in _BLANK
        or ord(character) in _TAGS
    )
    return _escaped(character) if hidden else character


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return _SHORT.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _escape(text: str) -> str:
    return _UNUSUAL.sub(lambda found: _shown(found[0]), text)


def visible(text: object) -> str:
    """Text of any number of lines, as it can be printed.

    Line feeds and tabs stay. A carriage return begins a new line, so that each state of a progress
    bar can be read and none can overwrite another. Every other control or invisible character is
    shown as Python would write it, for example `\\x1b` or `\\u202e`.
    """
    return _escape(_LINE_ENDS.sub("\n", str(text)))


def visible_line(text: object) -> str:
    """A name or another text that has to stay on one line: line feeds and tabs are escaped too."""
    found = _escape(str(text))
    if "\n" in found or "\t" in found:
        return found.replace("\n", r"\n").replace("\t", r"\t")
    return found


class VisibleStream:
    """`visible` for text that comes in pieces: a line's end may be divided between two."""

    def __init__(self) -> None:
        self._after_return = False

    def feed(self, piece: str) -> str:
        """What is to be printed for the next piece."""
        if self._after_return:
            # Its line end has been printed already.
            rest = _LINE_END_GOES_ON.sub("", piece)
            if not rest:
                self._after_return = "\n" not in piece
                return ""
            piece = rest
        self._after_return = piece.endswith("\r")
        return visible(piece)


def is_terminal(out: TextIO) -> bool:
    """Whether somebody looks at what is written there; a closed file is not a terminal."""
    try:
        return out.isatty()
    except (AttributeError, ValueError):
        return False


def say(text: object, file: TextIO | None = None, *, lines: bool = False) -> None:
    """Print a text for people; by default to standard output.

    Args:
        text: what to print.
        file: where to.
        lines: whether it may have several lines; otherwise a line feed in it is escaped too.
    """
    print(visible(text) if lines else visible_line(text), file=file or sys.stdout, flush=True)
