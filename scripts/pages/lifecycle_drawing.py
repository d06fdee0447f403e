"""The drawing of the lifecycle, made from the table in the code.

python -m scripts.pages.lifecycle_drawing > docs/lifecycle.svg

The table has too many transitions for an arrow each. Statuses that are left in the same ways share
a frame, and one arrow from a frame stands for a transition from every status in it.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from simherd.contract.lifecycle import RUNNING, TABLE, TERMINAL, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The way of a task that nothing stops, from top to bottom.
_LINE = [s for s, row in TABLE.items() if row.killable]
_WAITING = frozenset(_LINE) - RUNNING


class Frame(NamedTuple):
    """Statuses that one arrow may leave together."""

    title: str
    members: frozenset[Status]


#: From the inside to the outside.
FRAMES = (
    Frame("Waits", _WAITING),
    Frame("On a machine", RUNNING),
    Frame("Can be killed", frozenset(_LINE)),
)


class Arrow(NamedTuple):
    """A transition from each of the sources."""

    sources: frozenset[Status]
    to: Status


def arrows() -> list[Arrow]:
    """As few arrows as the frames allow, for all transitions of the table and no others."""
    found = []
    for to in Status:
        left = {s for s, row in TABLE.items() if to in row.after}
        for members in (f.members for f in reversed(FRAMES)):
            if members <= left:
                found.append(Arrow(members, to))
                left -= members
        found += [Arrow(frozenset({source}), to) for source in Status if source in left]
    return found


# Lengths are pixels of a drawing that is not scaled.
_BOX_W, _BOX_H = 260, 40
_ROW = 52
_PAD, _TITLE = 14, 22
_LEFT = 64
_RIGHT = 500
_WIDTH = _RIGHT + _BOX_W + 20
#: Where the vertical parts of arrows to the right are: each rank of sources has its own.
_BUS, _BUS_GAP = 385, 24

_STYLE = """\
text { font-family: system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1c2733; }
.label { font-size: 14px; font-weight: 600; text-anchor: middle; }
.wire { font-family: ui-monospace, monospace; font-size: 10.5px; text-anchor: middle; }
.title { font-size: 12px; fill: #51606f; }
.frame { fill: none; stroke: #94a3b3; stroke-dasharray: 4 3; }
.arrow { fill: none; stroke: #51606f; stroke-width: 1.4; marker-end: url(#head); }
.waits { fill: #eef1f4; stroke: #7b8a99; }
.runs { fill: #dcecfb; stroke: #2f73b3; }
.good { fill: #ddf3e2; stroke: #2d8a4b; }
.bad { fill: #fbe4e1; stroke: #b8493d; }"""


class _Place(NamedTuple):
    x: float
    y: float
    w: float = _BOX_W
    h: float = _BOX_H

    @property
    def middle(self) -> float:
        return self.y + self.h / 2

    @property
    def center(self) -> float:
        return self.x + self.w / 2

    @property
    def right(self) -> float:
        return self.x + self.w

    @property
    def bottom(self) -> float:
        return self.y + self.h


def drawing() -> str:
    """The whole drawing, as SVG."""
    boxes = _line_places() | _end_places()
    frames = {f: _around(f, boxes) for f in FRAMES}
    height = max(p.bottom for p in [*boxes.values(), *frames.values()]) + _PAD
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}"'
            f' width="{_WIDTH}" height="{height:g}" role="img">',
            "<title>The lifecycle of a task</title>",
            f"<style>\n{_STYLE}\n</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7"'
            ' markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#51606f"/>'
            "</marker></defs>",
            f'<rect width="{_WIDTH}" height="{height:g}" rx="8" fill="#fff"/>',
            *(_frame(f.title, place) for f, place in frames.items()),
            *(_box(status, place) for status, place in boxes.items()),
            *_ways(boxes, {f.members: place for f, place in frames.items()}),
            "</svg>",
            "",
        ]
    )


def _line_places() -> dict[Status, _Place]:
    """The line on the left, with room for a frame's title where a frame begins."""
    places = {}
    y = float(_PAD + _TITLE)
    for number, status in enumerate(_LINE):
        if number == 0 or (status in RUNNING) != (_LINE[number - 1] in RUNNING):
            y += _PAD + _TITLE
        places[status] = _Place(_LEFT, y)
        y += _ROW + _PAD
    return places


def _end_places() -> dict[Status, _Place]:
    """What a task may come to, on the right, in the order of where it comes from."""
    first: dict[Status, Arrow] = {}
    for arrow in arrows():
        if arrow.to not in _LINE:
            first.setdefault(arrow.to, arrow)
    ends = sorted(first, key=lambda s: (_rank(first[s].sources), s not in TERMINAL))
    return {s: _Place(_RIGHT, _PAD + n * _ROW) for n, s in enumerate(ends)}


def _rank(sources: frozenset[Status]) -> int:
    """Which sources' arrows lead to the upper ends: so none cross."""
    if not sources <= frozenset(_LINE):
        return 4
    return {_WAITING: 0, RUNNING: 1, frozenset(_LINE): 3}.get(sources, 2)


def _around(frame: Frame, boxes: dict[Status, _Place]) -> _Place:
    inside = [boxes[s] for s in frame.members]
    depth = 2 if any(other.members < frame.members for other in FRAMES) else 1
    top = min(p.y for p in inside) - depth * (_TITLE + 4)
    bottom = max(p.bottom for p in inside) + depth * _PAD
    return _Place(_LEFT - depth * _PAD, top, _BOX_W + 2 * depth * _PAD, bottom - top)


def _frame(title: str, place: _Place) -> str:
    return (
        f'<rect class="frame" x="{place.x:g}" y="{place.y:g}" width="{place.w:g}"'
        f' height="{place.h:g}" rx="8"/>'
        f'<text class="title" x="{place.x + 10:g}" y="{place.y + 16:g}">{escape(title)}</text>'
    )


def _box(status: Status, place: _Place) -> str:
    row = TABLE[status]
    return (
        f'<rect class="{_kind(status)}" x="{place.x:g}" y="{place.y:g}" width="{place.w:g}"'
        f' height="{place.h:g}" rx="6"/>'
        f'<text class="label" x="{place.center:g}" y="{place.y + 17:g}">{escape(row.label)}</text>'
        f'<text class="wire" x="{place.center:g}" y="{place.y + 32:g}">{status.value}</text>'
    )


def _kind(status: Status) -> str:
    if status in RUNNING:
        return "runs"
    if status not in TERMINAL:
        return "waits"
    return "good" if status == Status.SUCCESS else "bad"


def _ways(boxes: dict[Status, _Place], frames: dict[frozenset[Status], _Place]) -> Iterator[str]:
    """The arrows: down to what is next, back up on the left of the line, and over to the right."""
    for sources, to in arrows():
        start = frames[sources] if sources in frames else boxes[next(iter(sources))]
        end = boxes[to]
        if start.x == end.x and start.y < end.y:
            yield _path(f"M{start.center:g} {start.bottom:g}V{end.y:g}")
        elif to in _LINE:
            back = start.x - _PAD / 2
            yield _path(f"M{start.x:g} {start.middle:g}H{back:g}V{end.middle:g}H{end.x:g}")
        elif start.bottom < end.middle and sources in frames:
            yield _path(f"M{start.center:g} {start.bottom:g}V{end.middle:g}H{end.x:g}")
        else:
            bus = _BUS + _BUS_GAP * _rank(sources)
            yield _path(f"M{start.right:g} {start.middle:g}H{bus:g}V{end.middle:g}H{end.x:g}")


def _path(way: str) -> str:
    return f'<path class="arrow" d="{way}"/>'


if __name__ == "__main__":
    print(drawing(), end="")
