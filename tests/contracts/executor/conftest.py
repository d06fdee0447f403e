"""Shared by the tests of spot notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.metadata import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def said() -> Iterator[Metadata]:
    with Metadata() as server:
        yield server
