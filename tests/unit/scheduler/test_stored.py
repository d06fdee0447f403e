"""How long a listing of the storage is believed, and who waits for a new one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from scheduler.objects import stored_bytes
from scheduler.objects.base import ObjectInfo
from scheduler.objects.stored_bytes import StoredBytes
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Objects:
    """A storage with one object, whose listing may be held up."""

    def __init__(self) -> None:
        self.listings = 0
        self.size = 1
        self.goes_on = threading.Event()
        self.goes_on.set()

    def list(self, user: str, prefix: str) -> Iterator[ObjectInfo]:
        self.listings += 1
        self.goes_on.wait(30)
        yield ObjectInfo("a", self.size, 0.0)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock of the module, as a test sets it."""
    moment = [1000.0]
    monkeypatch.setattr(stored_bytes, "time", SimpleNamespace(monotonic=lambda: moment[0]))
    return moment


@pytest.fixture
def objects() -> Objects:
    return Objects()


def test_a_listing_is_believed_for_a_minute(now: list[float], objects: Objects) -> None:
    sizes = StoredBytes(objects, lambda: 1.0)  # type: ignore[arg-type]
    for _ in range(3):
        assert sizes.bytes_of("ada") == 1
    assert objects.listings == 1
    objects.size = 2
    assert sizes.bytes_of("ada", fresh_s=0) == 2


def test_nobody_waits_during_a_long_listing(now: list[float], objects: Objects) -> None:
    sizes = StoredBytes(objects, lambda: 1.0)  # type: ignore[arg-type]
    sizes.bytes_of("ada")
    objects.size = 2
    objects.goes_on.clear()
    now[0] += 61
    for _ in range(5):
        assert sizes.bytes_of("ada") == 1
    objects.goes_on.set()
    until(lambda: sizes.bytes_of("ada") == 2, what="the new listing")
    assert objects.listings == 2


def test_a_reader_does_not_wait_for_long(now: list[float], objects: Objects) -> None:
    sizes = StoredBytes(objects, lambda: 1.0)  # type: ignore[arg-type]
    objects.goes_on.clear()
    assert sizes.listing_soon("ada", wait_s=0.01) is None
    objects.goes_on.set()
    until(lambda: sizes.listing_soon("ada") is not None, what="the listing")
    assert objects.listings == 1


def test_an_outdated_size_is_listed_once_and_waited_for(now: list[float], objects: Objects) -> None:
    sizes = StoredBytes(objects, lambda: 1.0)  # type: ignore[arg-type]
    sizes.bytes_of("ada")
    objects.size = 2
    now[0] += 301
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(sizes.bytes_of, ["ada"] * 4)) == {2}
    assert objects.listings == 2


def test_removed_files_free_space_at_once(
    now: list[float], objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow() -> float:  # each listing takes a minute, and is believed for twenty
        now[0] += 30
        return now[0]

    monkeypatch.setattr(stored_bytes, "time", SimpleNamespace(monotonic=slow))
    sizes = StoredBytes(objects, lambda: 1.0)  # type: ignore[arg-type]
    sizes.bytes_of("ada")
    objects.size = 0
    assert sizes.bytes_of("ada", fresh_s=0) == 1
    sizes.note_removed("ada")
    assert sizes.bytes_of("ada") == 1
    assert sizes.bytes_of("ada", fresh_s=0) == 0
