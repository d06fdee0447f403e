"""The picture of the rooms, made from the imports in the code, and figures of a checkout.

python -m scripts.pages.rooms > docs/rooms.svg
python -m scripts.pages.rooms --count [ROOT]

A room is a folder of modules. It stands above the rooms that it imports. An arrow is left out where
others lead the same way; its number counts the imports. A red arrow leads up.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scripts.pages.import_graph import (
    Checkout,
    Kind,
    circles,
    floors,
    reachable,
    shared_class_names,
    upward,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.pages.import_graph import Graph

REPOSITORY = Path(__file__).parents[2]

# Lengths are pixels of a drawing that is not scaled.
_BOX_W, _BOX_H = 160, 36
_COLUMN, _ROW, _PAD = 180, 92, 20

_STYLE = """\
text { font-family: system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1c2733; }
.label { font-size: 12px; font-weight: 600; text-anchor: middle; }
.package, .number { font-size: 10px; fill: #51606f; text-anchor: middle; }
.down { fill: none; stroke: #94a3b3; stroke-width: 1.1; marker-end: url(#down); }
.up { fill: none; stroke: #c2372b; stroke-width: 1.6; marker-end: url(#up); }
.simherd { fill: #fdf3d8; stroke: #b58a1b; }
.scheduler { fill: #dcecfb; stroke: #2f73b3; }
.executor { fill: #ddf3e2; stroke: #2d8a4b; }
.simherd_drills { fill: #eef1f4; stroke: #7b8a99; }"""


class _Arrow(NamedTuple):
    start: str
    end: str
    imports: int
    is_up: bool


class _Corner(NamedTuple):
    x: float
    y: float


def drawing(checkout: Checkout) -> str:
    """Return the picture of a checkout, as SVG."""
    weights = _drawn_rooms(checkout)
    up = upward(weights)
    down: Graph = {a: {b for b in to if (a, b) not in up} for a, to in weights.items()}
    corners = _corners(down)
    width = max(c.x for c in corners.values()) + _BOX_W + _PAD
    height = max(c.y for c in corners.values()) + _BOX_H + _PAD
    arrows = [
        _Arrow(a, b, n, (a, b) in up)
        for a, to in sorted(weights.items())
        for b, n in sorted(to.items())
        if (a, b) in up or not _is_implied(down, a, b)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
            f' width="{width:g}" height="{height:g}" role="img">',
            "<title>The rooms of Simherd and what they import</title>",
            f"<style>\n{_STYLE}\n</style>",
            f"<defs>{_head('down', '#94a3b3')}{_head('up', '#c2372b')}</defs>",
            f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#fff"/>',
            *(_path(arrow, corners) for arrow in arrows),
            *(_box(room, corner) for room, corner in corners.items()),
            *(_number(arrow, corners) for arrow in arrows),
            "</svg>",
            "",
        ]
    )


def _drawn_rooms(checkout: Checkout) -> dict[str, dict[str, int]]:
    """Return the rooms that have an arrow; revisions of the database are left out."""
    weights = checkout.rooms(Kind.LOAD, Kind.FUNCTION)
    drawn = {r for a, to in weights.items() for r in (a, *to) if to and "migrations" not in a}
    return {a: {b: n for b, n in weights[a].items() if b in drawn} for a in sorted(drawn)}


def _is_implied(down: Graph, start: str, end: str) -> bool:
    return any(end in reachable(down, between) for between in down[start] - {end})


def _corners(down: Graph) -> dict[str, _Corner]:
    """Place each room on its floor, near the middle of what it imports."""
    floor = floors(down)
    top = max(floor.values())
    corners: dict[str, _Corner] = {}
    columns = max(Counter(floor.values()).values())
    for level in range(top + 1):
        ideal = {}
        for room in (r for r in sorted(down) if floor[r] == level):
            below = [corners[r].x for r in down[room]]
            ideal[room] = sum(below) / len(below) if below else 0.0
        row = sorted(ideal, key=lambda r: (r.partition(".")[0], ideal[r], r))
        indent = _PAD + (columns - len(row)) * _COLUMN / 2
        for number, room in enumerate(row):
            corners[room] = _Corner(indent + number * _COLUMN, _PAD + (top - level) * _ROW)
    return corners


def _head(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7"'
        f' markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="{colour}"/></marker>'
    )


def _ends(arrow: _Arrow, corners: dict[str, _Corner]) -> tuple[_Corner, _Corner]:
    """Return where an arrow leaves a box and where it meets the other one."""
    a, b = corners[arrow.start], corners[arrow.end]
    middle = _BOX_W / 2
    if a.y < b.y:
        return _Corner(a.x + middle, a.y + _BOX_H), _Corner(b.x + middle, b.y)
    return _Corner(a.x + middle + 12, a.y), _Corner(b.x + middle + 12, b.y + _BOX_H)


def _path(arrow: _Arrow, corners: dict[str, _Corner]) -> str:
    a, b = _ends(arrow, corners)
    bend = _ROW / 3 if a.y < b.y else -_ROW / 3
    return (
        f'<path class="{"up" if arrow.is_up else "down"}" d="M{a.x:g} {a.y:g}'
        f'C{a.x:g} {a.y + bend:g} {b.x:g} {b.y - bend:g} {b.x:g} {b.y:g}">'
        f"<title>{arrow.start} imports {arrow.end}: {arrow.imports}</title></path>"
    )


def _number(arrow: _Arrow, corners: dict[str, _Corner]) -> str:
    a, b = _ends(arrow, corners)
    x, y = a.x + (b.x - a.x) * 0.12, a.y + (14 if a.y < b.y else -6)
    return f'<text class="number" x="{x:g}" y="{y:g}">{arrow.imports}</text>'


def _box(room: str, corner: _Corner) -> str:
    package, _, name = room.partition(".")
    middle = corner.x + _BOX_W / 2
    label = f'<text class="label" x="{middle:g}" y="{corner.y + (18 if name else 22):g}">'
    under = f'<text class="package" x="{middle:g}" y="{corner.y + 31:g}">{package}</text>'
    return (
        f'<rect class="{package}" x="{corner.x:g}" y="{corner.y:g}" width="{_BOX_W}"'
        f' height="{_BOX_H}" rx="6"/>{label}{name or package}</text>{under if name else ""}'
    )


def figures(root: Path) -> Iterator[str]:
    """Return what can be counted of a checkout, as lines of Markdown."""
    checkout = Checkout(root)
    lines = {name: len(file.read_text().splitlines()) for name, file in checkout.files.items()}
    for package in sorted({name.partition(".")[0] for name in lines}):
        inside = [name for name in lines if name.partition(".")[0] == package]
        yield f"- {package}: {len(inside)} files, {sum(lines[n] for n in inside):,} lines"
    for kinds in ((Kind.LOAD,), (Kind.LOAD, Kind.FUNCTION), tuple(Kind)):
        weights, modules = checkout.rooms(*kinds), checkout.modules(*kinds)
        names = " or ".join(kinds)
        up = upward(weights)
        rooms = {a: set(to) for a, to in weights.items()}
        down = {a: {b for b in to if (a, b) not in up} for a, to in weights.items()}
        yield (
            f"- imports {names}: {1 + max(floors(modules).values())} floors of modules,"
            f" {1 + max(floors(down).values())} of rooms,"
            f" {sum(map(len, weights.values()))} arrows between rooms, {len(up)} of them upwards"
            f" ({sum(weights[a][b] for a, b in up)} imports);"
            f" circles of modules: {[len(c) for c in circles(modules)] or 'none'},"
            f" of rooms: {[len(c) for c in circles(rooms)] or 'none'}"
        )
    shared = shared_class_names(checkout.trees)
    yield f"- public class names in more than one module: {len(shared)}: {', '.join(shared)}"
    yield f"- unit tests: {_collected(root)}"
    yield from ("", "| folder | files | lines |", "|---|---|---|")
    for room, files in sorted(Counter(map(checkout.room, lines)).items(), key=lambda x: -x[1]):
        total = sum(n for name, n in lines.items() if checkout.room(name) == room)
        yield f"| {room} | {files} | {total:,} |"


def _collected(root: Path) -> str:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/unit"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return (run.stdout.strip().splitlines() or ["none"])[-1]


def main() -> None:
    """Print the picture, or the figures of a checkout."""
    if sys.argv[1:2] == ["--count"]:
        for line in figures(Path(*sys.argv[2:3]).resolve()):
            print(line)
    else:
        print(drawing(Checkout(REPOSITORY)), end="")


if __name__ == "__main__":
    main()
