"""A machine and what the attempts that are here have of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from executor.containers.process import ProcessBackend
from executor.machine.machine import MachineResources, file_name

if TYPE_CHECKING:
    from pathlib import Path


def machine(folder: Path, *attempts: Any) -> MachineResources:
    config: Any = SimpleNamespace(state_dir=folder, disk_bytes=0, disk_reserve_bytes=0, slots=2)
    return MachineResources(config, ProcessBackend(folder / "notes"), lambda: attempts)


@pytest.mark.parametrize(
    ("key", "name"), [("task:1", "task-1"), ("a:12", "a-12"), ("plain", "plain")]
)
def test_an_attempts_name_as_a_files(key: str, name: str) -> None:
    assert file_name(key) == name


def test_the_facts_that_a_machine_reports(tmp_path: Path) -> None:
    facts = machine(tmp_path).facts(draining=True)
    assert {key: facts[key] for key in ("backend", "disk_limit", "slots", "gpus", "draining")} == {
        "backend": "process",
        "disk_limit": "watched",
        "slots": 2,
        "gpus": 0,
        "draining": True,
    }
    assert facts["waits_for"] is None
    assert facts["disk_free_bytes"] > 0
    assert facts["memory_used_bytes"] > 0


@pytest.mark.parametrize("keep", [True, False])
def test_a_volume_is_emptied_unless_it_is_kept(tmp_path: Path, keep: bool) -> None:
    resources = machine(tmp_path)
    first = resources.volume("task:1", keep=False)
    (first.folder / "f").write_text("x")
    again = resources.volume("task:1", keep=keep)
    assert again.folder == first.folder
    assert (again.folder / "f").exists() is keep


def test_only_the_places_of_attempts_that_are_here_stay(tmp_path: Path) -> None:
    there = machine(tmp_path)
    kept, gone = (there.volume(key, keep=False).folder for key in ("a:1", "b:1"))
    there.clean_up(["a:1"])
    there.close()
    assert (kept.exists(), gone.exists()) == (True, False)


def test_space_reserved_by_attempts_is_not_given_to_others(tmp_path: Path) -> None:
    volume = SimpleNamespace(limit=1024**5, used=lambda: 0)
    attempt = SimpleNamespace(volume=volume, image="image")
    there = machine(tmp_path, attempt)
    assert there.lacks is None
    reason = there.waits_for()
    assert reason is not None
    assert there.lacks == reason == there.facts(draining=False)["waits_for"]
    assert there.disk()[1] == 0
    # One without a limit, or that has taken its share, books nothing.
    for volume.limit, volume.used in ((0, lambda: 0), (10, lambda: 20)):
        there.waits_for()
        assert "1.0 PiB" not in str(there.lacks)
