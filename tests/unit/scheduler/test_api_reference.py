"""The HTTP API's reference."""

from __future__ import annotations

from scheduler.api import reference
from tests.conftest import REPOSITORY


def test_the_reference_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "reference" / "http.md").read_text()
    assert page == reference.page(), "python -m scheduler.api.reference > docs/reference/http.md"
