"""Every row of the table of bad input has a test, and the page says which."""

from __future__ import annotations

from tests.conftest import REPOSITORY
from tests.support.fault_rows import FAULTS, ROWS
from tests.support.faults import marked_tests, page


def test_every_row_has_a_test() -> None:
    tests = marked_tests()
    pending = {fault.row for fault in FAULTS if fault.is_pending}
    print(f"Rows whose tests are still to be written: {', '.join(sorted(pending)) or 'none'}")
    assert {row for row in ROWS if row not in tests} <= pending
    assert sorted(pending & tests.keys()) == [], "these have tests: take `is_pending` away"


def test_markers_name_rows_that_there_are() -> None:
    assert sorted(marked_tests().keys() - ROWS.keys()) == []
    wanted = {*range(1, 23), *range(25, 32), *range(44, 50)}
    assert list(ROWS) == [f"B{number}" for number in sorted(wanted)]


def test_the_page_in_the_documentation_is_the_table() -> None:
    found = (REPOSITORY / "docs" / "faults.md").read_text()
    assert found == page(), "python -m tests.support.faults > docs/faults.md"
