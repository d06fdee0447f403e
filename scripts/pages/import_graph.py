"""Which module imports which, read from the source of a checkout without running it."""

from __future__ import annotations

import ast
from enum import StrEnum
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    Graph = dict[str, set[str]]

#: Where the packages of the product are, in a checkout.
FOLDERS = {
    "simherd": "simherd",
    "scheduler": "scheduler",
    "executor": "executor",
    "simherd_drills": "drills/simherd_drills",
}

#: Where a statement has others.
_BODIES = ("body", "orelse", "handlers", "finalbody", "cases")


class Kind(StrEnum):
    """When an import happens."""

    LOAD = "at load"
    FUNCTION = "in a function"
    TYPES = "for types"


class Import(NamedTuple):
    """One module that names another."""

    source: str
    target: str
    kind: Kind


@cache
def parsed(file: Path) -> ast.Module:
    """Return the syntax of a file, which is read once."""
    return ast.parse(file.read_text())


@cache
def nodes(file: Path) -> list[ast.AST]:
    """Return each node of a file's syntax, in the order of `ast.walk`."""
    return list(ast.walk(parsed(file)))


class Checkout:
    """The modules of a checkout and the imports between them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, Path] = {}
        for package, folder in FOLDERS.items():
            for file in sorted((root / folder).rglob("*.py")):
                parts = [package, *file.relative_to(root / folder).with_suffix("").parts]
                self.files[".".join(p for p in parts if p != "__init__")] = file
        self.packages = {name for name, file in self.files.items() if file.stem == "__init__"}

    def room(self, module: str) -> str:
        """Return the folder of a module, as a dotted name."""
        return module if module in self.packages else module.rpartition(".")[0]

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        return {name: parsed(file) for name, file in self.files.items()}

    @cached_property
    def imports(self) -> set[Import]:
        """Each import of a module of the product by another one."""
        return {
            Import(source, target, kind)
            for source, tree in self.trees.items()
            for node, kind in _import_nodes(tree, Kind.LOAD)
            for target in self._targets(node)
            if target != source
        }

    def _targets(self, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in self.files)
        elif node.module:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                if module in self.files:
                    yield module
                elif node.module in self.files:
                    yield node.module

    def modules(self, *kinds: Kind) -> Graph:
        """Return what each module imports, in these ways."""
        graph: Graph = {name: set() for name in self.files}
        for source, target, kind in self.imports:
            if kind in kinds:
                graph[source].add(target)
        return graph

    def rooms(self, *kinds: Kind) -> dict[str, dict[str, int]]:
        """Return the number of imports from each room to each other one, in these ways."""
        graph: dict[str, dict[str, int]] = {self.room(name): {} for name in self.files}
        for source, target, kind in sorted(self.imports):
            start, end = self.room(source), self.room(target)
            if kind in kinds and start != end:
                graph[start][end] = graph[start].get(end, 0) + 1
        return graph


def _import_nodes(tree: ast.AST, kind: Kind) -> Iterator[tuple[ast.Import | ast.ImportFrom, Kind]]:
    for node in (node for name in _BODIES for node in getattr(tree, name, ())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, kind
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _import_nodes(node, Kind.TYPES)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _import_nodes(node, Kind.FUNCTION)
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _import_nodes(node, kind)


def circles(graph: Graph) -> list[set[str]]:
    """Return the sets of nodes that reach each other, the largest first."""
    reverse: Graph = {node: set() for node in graph}
    for node, targets in graph.items():
        for target in targets:
            reverse[target].add(node)
    placed: set[str] = set()
    found = []
    for node in reversed(_finished(graph)):
        circle = {node} | reachable(reverse, node, placed)
        placed |= circle
        found += [circle] if len(circle) > 1 else []
    return sorted(found, key=lambda circle: (-len(circle), min(circle)))


def _finished(graph: Graph) -> list[str]:
    """Return the nodes in the order in which a walk leaves them, deepest first."""
    order: list[str] = []
    seen: set[str] = set()

    def walk(node: str) -> None:
        seen.add(node)
        for target in sorted(graph[node] - seen):
            if target not in seen:
                walk(target)
        order.append(node)

    for node in sorted(graph):
        if node not in seen:
            walk(node)
    return order


def reachable(graph: Graph, start: str, without: AbstractSet[str] = frozenset()) -> set[str]:
    """Return the nodes that a path leads to, but for `without`.

    The start is one of them only where it is in a circle.
    """
    seen: set[str] = set()
    waiting = [node for node in graph[start] if node not in without]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += graph[node] - without
    return seen


def floors(graph: Graph) -> dict[str, int]:
    """Return the floor of each node: 0 imports nothing, each other stands above its imports.

    The members of a circle share a floor.
    """
    groups = {node: frozenset({node}) for node in graph}
    for circle in circles(graph):
        groups |= dict.fromkeys(circle, frozenset(circle))
    levels: dict[frozenset[str], int] = {}

    def level(group: frozenset[str]) -> int:
        if group not in levels:
            below = {groups[n] for member in group for n in graph[member]} - {group}
            levels[group] = 1 + max((level(g) for g in below), default=-1)
        return levels[group]

    return {node: level(group) for node, group in groups.items()}


def shared_class_names(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Return the public class names that more than one module defines, with the modules."""
    owners: dict[str, list[str]] = {}
    for module, tree in sorted(trees.items()):
        for name in _public_classes(tree.body):
            owners.setdefault(name, []).append(module)
    return {name: modules for name, modules in sorted(owners.items()) if len(modules) > 1}


def _public_classes(body: Iterable[ast.stmt]) -> set[str]:
    return {n.name for n in body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")}


def upward(weights: dict[str, dict[str, int]]) -> set[tuple[str, str]]:
    """Return few and light arrows without which the rooms stand above each other in floors.

    The order is Eades', Lin's and Smyth's: sinks to the bottom, sources to the top, and of the
    others the one that imports the most and is imported the least.
    """
    top: list[str] = []
    bottom: list[str] = []
    left = set(weights)
    while left:
        out = {n: sum(w for to, w in weights[n].items() if to in left) for n in left}
        into = {n: sum(weights[other].get(n, 0) for other in left) for n in left}
        if sinks := sorted(n for n in left if not out[n]):
            bottom = [*sinks, *bottom]
            left -= set(sinks)
        else:
            sources = sorted(n for n in left if not into[n])
            chosen = sources or [min(left, key=lambda n: (into[n] - out[n], n))]
            top += chosen
            left -= set(chosen)
    place = {room: number for number, room in enumerate([*top, *bottom])}
    return {(a, b) for a, targets in weights.items() for b in targets if place[a] > place[b]}
