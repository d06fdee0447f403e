"""Which images go when room is needed: pulled ones, longest unused first, none in use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from executor.machine.image_cache import ImageCache

if TYPE_CHECKING:
    from pathlib import Path


class Engine:
    """Removes images; `busy` ones it refuses."""

    def __init__(self, *busy: str) -> None:
        self.removed: list[str] = []
        self._busy = busy

    def remove(self, image: str) -> bool:
        if image in self._busy:
            return False
        self.removed.append(image)
        return True


def never() -> bool:
    return False


def cache(folder: Path, engine: Engine, **used: float) -> ImageCache:
    """One that knows these images and when each was last used."""
    (folder / "images.json").write_text(json.dumps(used))
    return ImageCache(folder / "images.json", engine.remove)


def test_the_image_unused_for_longest_goes_first(tmp_path: Path) -> None:
    engine = Engine()
    images = cache(tmp_path, engine, new=30, old=10, middle=20)
    assert images.evict(never, frozenset()) == ["old", "middle", "new"]
    assert engine.removed == ["old", "middle", "new"]


@pytest.mark.parametrize("enough_after", [0, 1, 2])
def test_no_more_are_removed_than_needed(tmp_path: Path, enough_after: int) -> None:
    engine = Engine()
    images = cache(tmp_path, engine, a=1, b=2, c=3)
    gone = images.evict(lambda: len(engine.removed) >= enough_after, frozenset())
    assert gone == ["a", "b", "c"][:enough_after]


def test_images_in_use_stay(tmp_path: Path) -> None:
    engine = Engine()
    assert cache(tmp_path, engine, a=1, b=2).evict(never, frozenset({"a"})) == ["b"]


def test_an_image_that_the_engine_keeps_is_tried_again_later(tmp_path: Path) -> None:
    images = cache(tmp_path, Engine("a"), a=1, b=2)
    assert images.evict(never, frozenset()) == ["b"]
    again = Engine()
    assert ImageCache(tmp_path / "images.json", again.remove).evict(never, frozenset()) == ["a"]


def test_an_image_that_was_here_before_is_never_removed(tmp_path: Path) -> None:
    images = cache(tmp_path, Engine())
    images.used("came-otherwise", pulled=False)
    images.used("pulled", pulled=True)
    assert images.evict(never, frozenset()) == ["pulled"]


def test_using_an_image_makes_it_the_last_to_go_also_for_a_later_agent(tmp_path: Path) -> None:
    cache(tmp_path, Engine(), a=1, b=2).used("a", pulled=False)
    images = ImageCache(tmp_path / "images.json", Engine().remove)
    assert images.evict(never, frozenset()) == ["b", "a"]


@pytest.mark.parametrize("text", [None, "", "{", "\x00"])
def test_a_broken_list_is_an_empty_one(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "images.json"
    if text is not None:
        file.write_text(text)
    images = ImageCache(file, Engine().remove)
    assert images.evict(never, frozenset()) == []
    images.used("a", pulled=True)
    assert list(json.loads(file.read_text())) == ["a"]
