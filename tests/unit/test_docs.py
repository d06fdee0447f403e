"""Pages that are written by hand, beside what they speak of."""

from __future__ import annotations

import pytest

from simherd import simulators
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"


@pytest.mark.parametrize("name", [n for n in dir(simulators) if n[0].isupper()])
def test_every_simulator_is_in_the_reference(name: str) -> None:
    assert name in (DOCS / "reference" / "simulators.md").read_text()
