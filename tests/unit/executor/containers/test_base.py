"""Commands that no backend starts, and the words of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from executor.containers.base import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    ContainerError,
    ContainerLost,
    ContainerSpec,
    ContainerStuck,
    EngineUnavailable,
    ImageUnavailable,
    keep_nothing,
    refusal,
)

if TYPE_CHECKING:
    from pathlib import Path


def spec(folder: Path, **changes: Any) -> ContainerSpec:
    (folder / "work/inside").mkdir(parents=True, exist_ok=True)
    (folder / "work/out").symlink_to(folder)
    (folder / "work/file").touch()
    fields = {"argv": ("true",), "stdout": folder / "o", "stderr": folder / "e", **changes}
    return ContainerSpec("name", "image", folder / "work", **fields)


@pytest.mark.parametrize("cwd", [".", "", "inside", "inside/..", "./inside"])
def test_a_folder_inside_is_allowed(tmp_path: Path, cwd: str) -> None:
    assert refusal(spec(tmp_path, cwd=cwd)) is None


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"argv": ()}, NOT_FOUND, "is empty"),
        ({"argv": ("",)}, NOT_FOUND, "is empty"),
        ({"argv": ("a", "b\0c")}, NOT_EXECUTABLE, "NUL"),
        ({"env": {"A\0": "x"}}, NOT_EXECUTABLE, "NUL"),
        ({"env": {"A": "x\0"}}, NOT_EXECUTABLE, "NUL"),
        ({"cwd": ".."}, NOT_EXECUTABLE, "outside"),
        ({"cwd": "/etc"}, NOT_EXECUTABLE, "outside"),
        ({"cwd": "out"}, NOT_EXECUTABLE, "outside"),
        ({"cwd": "inside/../../work2"}, NOT_EXECUTABLE, "outside"),
        ({"cwd": "missing"}, NOT_EXECUTABLE, "does not exist"),
        ({"cwd": "file"}, NOT_EXECUTABLE, "does not exist"),
    ],
)
def test_a_command_that_cannot_be_is_refused_with_its_reason(
    tmp_path: Path, changes: dict[str, Any], code: int, reason: str
) -> None:
    exit_ = refusal(spec(tmp_path, **changes))
    assert exit_ is not None
    assert exit_.code == code
    assert reason in exit_.message


@pytest.mark.parametrize("permanent", [True, False])
def test_an_image_that_is_missing_says_which_and_what_to_do(permanent: bool) -> None:
    error = ImageUnavailable("a/b:1", "no such tag", "Check it.", permanent=permanent)
    assert str(error) == "The image 'a/b:1' is not available: no such tag. Check it."
    assert (error.image, error.permanent) == ("a/b:1", permanent)


@pytest.mark.parametrize(
    "kind", [EngineUnavailable, ContainerLost, ContainerStuck, ImageUnavailable]
)
def test_every_error_is_one_of_containers(kind: type[Exception]) -> None:
    assert issubclass(kind, ContainerError)


def test_by_default_nothing_is_kept() -> None:
    assert not keep_nothing({"a": "b"})
