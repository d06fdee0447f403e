"""The conformance page: what tests show, and that the published page has every row."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY
from tests.support.conformance import FAILED, NO_TEST, Seen, wrong
from tests.support.contract_rows import OURS, PUBLISHED, ROWS, TABLES

PAGE = REPOSITORY / "docs/conformance.md"
#: A row that both can show, and one that the published client cannot.
BOTH, OWN = ROWS["Task.kill"], ROWS["Task.get_output_files_info"]


def test_names_are_there_once() -> None:
    assert len(ROWS) == sum(len(table.rows) for table in TABLES)


def test_a_row_is_passed_when_tests_have_passed_and_none_failed() -> None:
    seen = Seen()
    assert seen.cell(BOTH, OURS) == NO_TEST
    for when in ("setup", "call", "teardown"):
        seen.report("a", [(BOTH.name, OURS)], "passed", when)
        seen.report("b", [(BOTH.name, OURS)], "passed", when)
    seen.report("c", [(BOTH.name, OURS)], "skipped", "call")
    assert seen.cell(BOTH, OURS) == "pass (2)"
    assert seen.cell(BOTH, PUBLISHED) == NO_TEST
    seen.report("a", [(BOTH.name, OURS)], "failed", "teardown")
    assert seen.cell(BOTH, OURS) == FAILED
    assert f"{BOTH.name} ({OURS}): {FAILED}" in seen.missing()


def test_a_row_that_cannot_be_met_has_a_reason() -> None:
    assert Seen().cell(OWN, PUBLISHED) == f"cannot: {OWN.published}"
    assert not [line for line in Seen().missing() if line.startswith(f"{OWN.name} ({PUBLISHED})")]


@pytest.mark.parametrize(
    ("name", "face", "options", "word"),
    [
        (BOTH.name, OURS, {}, ""),
        (BOTH.name, PUBLISHED, {"face": PUBLISHED}, ""),
        ("Task.kil", OURS, {}, "is no row"),
        (BOTH.name, "theirs", {"face": "theirs"}, "face="),
        (BOTH.name, OURS, {"client": PUBLISHED}, "face="),
        (OWN.name, PUBLISHED, {"face": PUBLISHED}, "impossible"),
    ],
)
def test_a_marker_that_cannot_be_is_refused(
    name: str, face: str, options: dict[str, object], word: str
) -> None:
    problem = wrong(name, face, options)
    assert (word in problem) if word else problem == ""


def test_the_page_has_every_row_and_none_is_left_open() -> None:
    text = PAGE.read_text()
    cell = r"(?:pass \(\d+\)|cannot: .+?)"
    for table in TABLES:
        part = text.split(f"## {table.title}\n")[1].split("\n## ")[0]
        rows = [line for line in part.splitlines() if line.startswith("| ")][1:]
        assert len(rows) == len(table.rows), table.title
        for line, row in zip(rows, table.rows, strict=True):
            start = f"| {row.name} {row.what} |" if row.what else f"| `{row.name}` |"
            assert line.startswith(start)
            assert re.fullmatch(rf" {cell} \| {cell} \|", line.removeprefix(start)), line
