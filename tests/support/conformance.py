"""A pytest plugin: writes docs/conformance.md from what tests say that they show.

A test says so with `@pytest.mark.conforms(*names, face=…)`; the names are those of
`contract_rows`, and one that is not there stops the run.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.contract_rows import OURS, PUBLISHED, ROWS, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.support.contract_rows import Row, Table

#: What workers of pytest-xdist send to the controller with each report.
_PROPERTY = "conforms"

HEAD = """# Conformance

Every method, request, command and rule of the contract: how many tests show that it passes, or why
it cannot. *Ours* is our client, our command line or a plain HTTP request; the published client is
`inductiva` 0.18.12, unmodified. A test run writes this page:

```sh
scripts/test --conformance docs/conformance.md
```
"""
FAILED, NO_TEST = "FAILED", "no test"


class Seen:
    """Which tests have shown what, and by whom."""

    def __init__(self) -> None:
        self._passed: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._failed: set[tuple[str, str]] = set()
        self._tests: set[str] = set()

    def report(self, test: str, shown: Iterable[tuple[str, str]], outcome: str, when: str) -> None:
        """A test's set-up, call or tear-down has ended."""
        for name, face in shown:
            if outcome == "failed":
                self._failed.add((name, face))
            elif outcome == "passed" and when == "call":
                self._passed[name, face].add(test)

    def cell(self, row: Row, face: str) -> str:
        """What the page says of a row."""
        if (row.name, face) in self._failed:
            return FAILED
        if row.cannot(face):
            return f"cannot: {row.cannot(face)}"
        count = len(self._passed[row.name, face])
        return f"pass ({count})" if count else NO_TEST

    def page(self) -> str:
        """The whole page."""
        return "\n".join([HEAD, *(self._table(table) for table in TABLES)])

    def missing(self) -> list[str]:
        """The rows that the page must not be published with."""
        return [
            f"{row.name} ({face}): {self.cell(row, face)}"
            for row in ROWS.values()
            for face in (OURS, PUBLISHED)
            if self.cell(row, face) in (FAILED, NO_TEST)
        ]

    def _table(self, table: Table) -> str:
        lines = [f"## {table.title}\n", f"| {table.heading} | ours | published client |"]
        lines.append("|---|---|---|")
        for row in table.rows:
            name = f"{row.name} {row.what}" if row.what else f"`{row.name}`"
            lines.append(f"| {name} | {self.cell(row, OURS)} | {self.cell(row, PUBLISHED)} |")
        return "\n".join(lines) + "\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--conformance FILE`."""
    parser.addoption("--conformance", metavar="FILE", help="write the conformance page to FILE")


def pytest_configure(config: pytest.Config) -> None:
    """The controller alone, which hears of every test, keeps book."""
    if config.getoption("conformance") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Book(Path(config.getoption("conformance"))), "conformance")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what a test shows where its reports take it along."""
    for item in items:
        shown = list(_shown(item))
        if shown:
            item.user_properties.append((_PROPERTY, shown))


def _shown(item: pytest.Item) -> Iterable[tuple[str, str]]:
    for mark in item.iter_markers("conforms"):
        face = mark.kwargs.get("face", OURS)
        for name in mark.args:
            problem = wrong(name, face, mark.kwargs)
            if problem:
                raise pytest.UsageError(f"{item.nodeid}: conforms: {problem}")
            yield name, face


def wrong(name: str, face: str, options: Mapping[str, object]) -> str:
    """What is wrong with what a test says that it shows, or nothing."""
    if set(options) - {"face"} or face not in (OURS, PUBLISHED):
        return f"{dict(options)!r} is not face={PUBLISHED!r}."
    if name not in ROWS:
        return f"{name!r} is no row of tests/support/contract_rows.py."
    reason = ROWS[name].cannot(face)
    return f"{name!r} is said to be impossible by {face}: {reason}." if reason else ""


class Book:
    """Hears of all tests, and writes the page when they are over."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seen = Seen()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test's outcome for what it shows."""
        for name, value in report.user_properties:
            if name == _PROPERTY:
                assert isinstance(value, list)
                self.seen.report(report.nodeid, value, report.outcome, report.when or "")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the page, and say what it lacks."""
        self.file.write_text(self.seen.page(), encoding="utf-8")
        missing = self.seen.missing()
        terminalreporter.section(f"conformance: {self.file}")
        for line in missing:
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"{len(missing)} rows are not shown.")
