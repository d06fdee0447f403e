"""Inputs that are not what they were when the task was submitted."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from executor.attempt.errors import StageFailed
from executor.attempt.stages.inputs import fetch_inputs
from executor.transfer.client import TransferClient, open_client
from simherd.contract.attempt_spec import InputFile
from simherd.contract.cause import Cause
from tests.support.archives import archive_of, file
from tests.support.web import Web, web_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as made:
        yield made


def fetch(web: Web, folder: Path, size: int | None, **inputs: Any) -> Any:
    """Fetch the inputs of an attempt; it is as the stage needs it, and no more."""
    spec = {"input_url": f"{web.url}/files/input.zip", "input_bytes": size, "shared_inputs": ()}
    with open_client() as client:
        attempt: Any = SimpleNamespace(
            spec=SimpleNamespace(**{**spec, "input_files": (), **inputs}),
            transfer=TransferClient(client, lambda _: None),
            operation=lambda *_, **__: nullcontext(),
            switch=SimpleNamespace(check=lambda: None),
            folder=folder,
            work=folder / "work",
            stamps=folder / "stamps",
            report_metrics=lambda **_: None,
            state=SimpleNamespace(),
        )
        fetch_inputs(attempt)
    return attempt


def refused(web: Web, folder: Path, size: int | None, **inputs: Any) -> str:
    with pytest.raises(StageFailed) as failed:
        fetch(web, folder, size, **inputs)
    assert failed.value.cause is Cause.INPUT_INVALID
    assert not (folder / "work").exists()
    return str(failed.value.detail)


@pytest.mark.fault("B45")
def test_an_input_that_was_changed_is_named_and_not_run_on(web: Web, tmp_path: Path) -> None:
    good = archive_of(tmp_path, file("sim_dir/run.sh", b"#!/bin/sh\n")).read_bytes()
    web.files["input.zip"] = good
    (tmp_path / "good").mkdir()
    assert (fetch(web, tmp_path / "good", len(good)).work / "run.sh").exists()
    for changed, said in (
        (b"", f"it has 0 bytes, and had {len(good)}"),
        (good[:-1], f"it has {len(good) - 1} bytes"),
        (good + b"x" * 10**7, f"more than the {len(good)} bytes"),
    ):
        web.files["input.zip"] = changed
        detail = refused(web, tmp_path, len(good))
        assert "input archive was replaced" in detail
        assert said in detail
        # No more of it than was allowed lies on the disk.
        assert (tmp_path / "input-0.zip").stat().st_size <= len(good)
    web.files["input.zip"] = b"x" * len(good)
    assert "input archive was refused" in refused(web, tmp_path, len(good))


@pytest.mark.fault("B45")
def test_an_input_that_was_deleted_is_named_after_one_try(web: Web, tmp_path: Path) -> None:
    assert "the input archive: the storage responded with 404" in refused(web, tmp_path, 100)
    assert len(web.asked) == 1
    gone = f"{web.url}/files/mesh.dat"
    inputs: dict[str, Any] = {"input_url": None, "input_files": (InputFile(gone, "mesh.dat"),)}
    assert "the asset 'mesh.dat': the storage responded with 404" in refused(
        web, tmp_path, None, **inputs
    )
    inputs = {"input_url": None, "shared_inputs": (gone,)}
    assert "the shared input 1: the storage responded with 404" in refused(
        web, tmp_path, None, **inputs
    )
    assert len(web.asked) == 3
