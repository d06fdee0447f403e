"""The HTTP API's reference."""

from __future__ import annotations

from scripts.pages import http_reference
from tests.conftest import REPOSITORY


def test_the_reference_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "reference" / "http.md").read_text()
    assert page == http_reference.page(), (
        "python -m scripts.pages.http_reference > docs/reference/http.md"
    )
