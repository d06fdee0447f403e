"""What `simherd up` runs simulations with when the Docker engine does not respond."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from simherd.cli import demo, up
from simherd.local import backend

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one `docker` command that there is; a test writes it."""
    room = tmp_path / "bin"
    room.mkdir()
    monkeypatch.setenv("PATH", str(room))
    return room / "docker"


def engine(docker: Path, script: str) -> None:
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)


STOPPED = "echo 'ERROR: Cannot connect to the Docker daemon.' >&2; exit 1"


def test_an_engine_that_responds_is_taken(docker: Path, tmp_path: Path) -> None:
    engine(docker, "exit 0")
    for asked in (None, "docker"):
        assert backend.choose(asked, tmp_path) == backend.Choice("docker")


@pytest.mark.parametrize(
    ("script", "reason"),
    [(None, "the command docker is not installed"), (STOPPED, "Cannot connect to the Docker")],
)
def test_a_fallback_to_processes_is_reported_with_its_reason(
    docker: Path, tmp_path: Path, script: str | None, reason: str
) -> None:
    if script is not None:
        engine(docker, script)
    choice = backend.choose(None, tmp_path)
    assert choice.backend == "process"
    assert choice.warning.startswith(f"The Docker engine does not respond ({reason}")
    assert "not isolated from this machine" in choice.warning
    assert "--backend process" in choice.warning
    # Those who ask for it know it.
    assert backend.choose("process", tmp_path) == backend.Choice("process")


def test_a_folder_that_ran_with_docker_does_not_lose_its_isolation(
    docker: Path, tmp_path: Path
) -> None:
    engine(docker, STOPPED)
    (tmp_path / "run").mkdir()
    backend.record(tmp_path, "docker")
    with pytest.raises(backend.BackendError, match=r"ran with it before.*--backend process"):
        backend.choose(None, tmp_path)
    assert backend.choose("process", tmp_path).backend == "process"
    backend.record(tmp_path, "process")
    assert backend.choose(None, tmp_path).backend == "process"


def test_a_folder_of_a_release_without_the_record_counts_as_isolated(
    docker: Path, tmp_path: Path
) -> None:
    engine(docker, STOPPED)
    (tmp_path / "connection.env").touch()
    with pytest.raises(backend.BackendError, match="may have run with it before"):
        backend.choose(None, tmp_path)
    assert backend.choose("process", tmp_path).backend == "process"


def test_a_data_folder_that_cannot_be_made_is_named() -> None:
    done = CliRunner().invoke(up.command, ["--backend", "process", "--data-dir", "/proc/foo"])
    assert done.exit_code == 1
    assert "The data folder /proc/foo cannot be made or written" in str(done.exception)
    assert "--data-dir" in str(done.exception)


def test_docker_that_was_asked_for_must_respond(docker: Path, tmp_path: Path) -> None:
    engine(docker, STOPPED)
    data = tmp_path / "data"
    for command, more in ((up.command, ["--data-dir", str(data)]), (demo.command, [])):
        done = CliRunner().invoke(command, ["--backend", "docker", *more])
        assert done.exit_code == 1
        assert "Start Docker, or say --backend process" in str(done.exception)
    # Nothing has been begun.
    assert not data.exists()
    assert os.listdir(tmp_path) == ["bin"]
