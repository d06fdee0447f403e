"""Which tests show what holds against bad input.

A test says so with `@pytest.mark.fault("B5", …)`; the rows are those of `fault_rows`. Test files
are read, not imported: that takes less than a second. `python -m tests.support.faults >
docs/faults.md` writes the page.
"""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.fault_rows import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]
HEAD = """# Bad input

What Simherd promises of input that is wrong on purpose or by accident, and the tests that show it.
The numbers are those of the project's table of bad input. A test of the suite compares this page
with the tests.
"""


@functools.cache
def marked_tests() -> dict[str, list[str]]:
    """Row → the tests that carry its marker, as `FILE::TEST`."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if "mark.fault(" not in text:
            continue
        tree = ast.parse(text)
        of_file = [row for node in tree.body if _is_pytestmark(node) for row in _rows(node)]
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            rows = [row for decorator in node.decorator_list for row in _rows(decorator)]
            for row in dict.fromkeys([*of_file, *rows]):
                found[row].append(f"{file.relative_to(TESTS).as_posix()}::{node.name}")
    return dict(found)


def _is_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"


def _rows(node: ast.AST) -> Iterator[str]:
    """The rows that markers name in an expression, also within `pytest.param(marks=…)`."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "pytest.mark.fault":
            yield from (str(ast.literal_eval(argument)) for argument in inner.args)


def page() -> str:
    """docs/faults.md."""
    tests = marked_tests()
    lines = [HEAD, "| | where | what is given | what holds | shown by |", "|---|---|---|---|---|"]
    for fault in FAULTS:
        files: dict[str, list[str]] = defaultdict(list)
        for test in tests.get(fault.row, []):
            file, _, name = test.partition("::")
            files[file].append(name)
        shown = "; ".join(
            f"`{file}`: {', '.join(f'`{name}`' for name in names)}" for file, names in files.items()
        )
        cells = (fault.row, fault.where, fault.given, fault.holds, shown or "to be written")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
