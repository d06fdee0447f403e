"""The lifecycle table: whole, closed, and without dead ends."""

from __future__ import annotations

import pytest

from scripts.pages.lifecycle_drawing import arrows, drawing
from scripts.pages.lifecycle_page import page
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.lifecycle import TABLE, TERMINAL, Status, sources_of
from tests.conftest import REPOSITORY


def test_every_status_has_a_row() -> None:
    assert set(TABLE) == set(Status)


def test_every_status_can_be_reached() -> None:
    reached = {Status.PENDING_INPUT}
    while True:
        more = {after for status in reached for after in TABLE[status].after} | reached
        if more == reached:
            break
        reached = more
    # Credits are of a later issue; nothing else may be out of reach.
    assert reached == set(Status)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_nothing_follows_a_terminal_status(status: Status) -> None:
    assert all(status not in (source,) for to in Status for source in sources_of(to))


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_ends_a_held_attempt(cause: Cause) -> None:
    status = OUTCOMES[cause].status
    assert status in TERMINAL
    allowed = {Status.COMPUTATION_ENDED, Status.COMPUTATION_STARTED, Status.PENDING_KILL}
    assert sources_of(status) & allowed


def test_the_page_in_the_documentation_is_the_table() -> None:
    assert (REPOSITORY / "docs" / "lifecycle.md").read_text() == page()


def test_the_drawing_in_the_documentation_is_of_the_table() -> None:
    assert (REPOSITORY / "docs" / "lifecycle.svg").read_text() == drawing()


def test_the_drawing_has_each_transition_once_and_no_other() -> None:
    drawn = [(source, arrow.to) for arrow in arrows() for source in arrow.sources]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {(s, after) for s, row in TABLE.items() for after in row.after}
