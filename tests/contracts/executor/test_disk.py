"""Promise 5: places for attempts that hold what they may, and machines that know their room."""

from __future__ import annotations

import contextlib
import os
from typing import IO, TYPE_CHECKING

import pytest

from executor.containers.docker import DockerBackend
from executor.machine.capacity import Capacity
from executor.machine.image_cache import ImageCache
from executor.machine.volumes import Disk, DiskError, LoopDisk, WatchedDisk, choose_disk
from tests.conftest import missing
from tests.support.docker import has_image
from tests.support.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024**2
LIMIT = 32 * MIB


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[LoopDisk]:
    try:
        made = LoopDisk(tmp_path / "attempts", tmp_path / "disks")
    except DiskError as error:
        missing(f"no file system can be mounted here: {error}")
    else:
        yield made
        made.clean_up(frozenset())


@pytest.fixture(params=["loop", "watched"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    if request.param == "loop":
        found: Disk = request.getfixturevalue("loop")
        return found
    return WatchedDisk(tmp_path / "attempts")


def _fill(out: IO[bytes]) -> int:
    """Write until it is refused, or twice the limit; return how much."""
    written = 0
    with contextlib.suppress(OSError):
        while written < 2 * LIMIT:
            written += out.write(bytes(MIB))
    return written


def test_a_place_knows_its_limit_and_its_use(disk: Disk) -> None:
    area = disk.make("a", LIMIT)
    assert 0.9 * LIMIT < area.limit <= LIMIT
    before = area.used()
    (area.folder / "f").write_bytes(os.urandom(MIB))
    os.sync()
    assert MIB <= area.used() - before < 2 * MIB
    assert not area.is_full()
    with (area.folder / "g").open("wb", buffering=0) as out:
        _fill(out)
    assert area.is_full()


def test_a_place_that_is_there_is_found_again(disk: Disk) -> None:
    (disk.make("a", LIMIT).folder / "f").write_text("kept")
    assert (disk.make("a", LIMIT).folder / "f").read_text() == "kept"


def test_only_what_is_to_be_kept_is_kept(disk: Disk) -> None:
    kept, gone = disk.make("a", LIMIT), disk.make("b", LIMIT)
    (kept.folder / "f").write_text("kept")
    disk.clean_up(frozenset({"a"}))
    assert (kept.folder / "f").read_text() == "kept"
    assert not gone.folder.exists()
    kept.close()
    assert not kept.folder.exists()


def test_a_hard_limit_holds_for_every_kind_of_file(loop: LoopDisk, tmp_path: Path) -> None:
    area = loop.make("a", LIMIT)
    held = (area.folder / "f").open("wb", buffering=0)
    os.unlink(area.folder / "f")
    assert _fill(held) < LIMIT
    # What was deleted while it was open counts, too.
    assert area.is_full()
    with (area.folder / "g").open("wb", buffering=0) as other:
        assert _fill(other) < 2 * MIB
    held.close()
    assert not area.is_full()
    area.close()
    loop.clean_up(frozenset())
    assert list((tmp_path / "disks").iterdir()) == []


def test_nobody_finds_what_another_left(loop: LoopDisk) -> None:
    first = loop.make("a", LIMIT)
    (first.folder / "d").mkdir()
    (first.folder / "d" / "secret").write_text("secret")
    (first.folder / "link").symlink_to("/etc")
    first.close()
    second = loop.make("b", LIMIT)
    assert [p.name for p in second.folder.iterdir() if p.name != "lost+found"] == []
    assert second.used() < MIB
    # What is known of the first one is not about the second.
    (second.folder / "f").write_bytes(bytes(MIB))
    assert (first.used(), first.is_full()) == (first.limit, False)
    first.close()
    assert (second.folder / "f").exists()


def test_a_file_system_that_took_much_is_not_kept(loop: LoopDisk, tmp_path: Path) -> None:
    area = loop.make("a", 4 * LIMIT)
    (area.folder / "f").write_bytes(os.urandom(3 * LIMIT))
    area.close()
    assert list((tmp_path / "disks").iterdir()) == []


def test_a_place_in_use_is_removed_all_the_same(loop: LoopDisk) -> None:
    area = loop.make("a", LIMIT)
    with (area.folder / "f").open("w"):
        area.close()
        assert not area.folder.exists()
    assert loop.make("a", LIMIT).used() < MIB


def test_without_a_limit_there_is_no_file_system(tmp_path: Path) -> None:
    assert choose_disk(tmp_path, 0).name == "watched"


@pytest.mark.fault("B48")
def test_a_machine_without_room_says_why(loop: LoopDisk, tmp_path: Path) -> None:
    small = loop.make("small", LIMIT)
    images = ImageCache(tmp_path / "images.json", lambda _: False)
    room = Capacity(small.folder, None, 0, images, frozenset)
    assert "free" in str(room.reason_to_wait(0))
    for number in range(100_000):
        try:
            (small.folder / str(number)).touch()
        except OSError:
            break
    assert "inodes" in str(room.reason_to_wait(0))


def test_an_attempt_is_given_what_can_be_kept(tmp_path: Path) -> None:
    images = ImageCache(tmp_path / "images.json", lambda _: False)
    room = Capacity(tmp_path, None, 0, images, frozenset)
    assert room.reason_to_wait(0) is None
    assert room.limit(LIMIT, 0) == LIMIT
    free = os.statvfs(tmp_path)
    assert room.limit(2**60, 0) <= free.f_bavail * free.f_frsize
    # Beside the first one there is room for the next.
    assert room.reason_to_wait(room.limit(2**60, 0)) is None
    assert "needed" in str(room.reason_to_wait(2**60))


@pytest.mark.docker
def test_images_that_were_pulled_go_when_room_is_wanted(tmp_path: Path) -> None:
    backend = DockerBackend()
    names = ("first", "second", "third", "used")
    with Registry() as registry:
        first, second, third, used = (registry.image(f"simherd-test/{n}") for n in names)
        images = ImageCache(tmp_path / "images.json", backend.remove_image)
        for image in (used, first, second, third):
            assert backend.prepare(image).source == "pulled"
            images.used(image, pulled=True)
        images.used("simherd/debian:bookworm", pulled=False)
        # An agent that was started anew remembers; the first one is used again.
        images = ImageCache(tmp_path / "images.json", backend.remove_image)
        images.used(first, pulled=False)
        gone: list[str] = []

        def enough() -> bool:
            return not has_image(second)

        gone = images.evict(enough, frozenset({used}))
        assert gone == [second]
        assert images.evict(lambda: False, frozenset({used})) == [third, first]
        assert has_image(used)
        assert has_image("simherd/debian:bookworm")
        assert images.evict(lambda: False, frozenset()) == [used]
    backend.close()
