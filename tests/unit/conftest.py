"""What keeps the unit tests cheap."""

from __future__ import annotations

import gc
import ssl
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_finish() -> None:
    """Leave what was imported out of the garbage collector's rounds: it stays until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture(scope="session", autouse=True)
def _one_tls_context() -> Iterator[None]:
    """Share one context: each HTTP client would load the CA certificates, and no test uses TLS."""
    made = ssl.create_default_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", lambda *_args, **_options: made)
        yield
