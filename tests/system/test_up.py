"""`simherd up` and `simherd demo`: starting, refusing to, and stopping."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from simherd.local.backend import last_backend
from tests.conftest import REPOSITORY, missing
from tests.support.env import Env, processes_below

if TYPE_CHECKING:
    from pathlib import Path


def test_a_second_one_on_the_same_folder_is_refused(env: Env) -> None:
    done = env.cli("up", "--port", "0", "--data-dir", str(env.data))
    assert done.returncode == 1
    assert f"Another `simherd up` runs on {env.data}" in done.stderr
    assert env.api.get("/readyz").status_code == 200
    # What a later start without an engine compares with.
    assert last_backend(env.data) == "process"


def test_a_port_that_is_taken_is_named(env: Env, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = env.cli("up", "--port", port, "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert f"port {port}: Address already in use" in done.stderr
    assert "--port 0" in done.stderr


@pytest.mark.parametrize("options", [("--port", "x"), ("--machines", "0"), ("--backend", "vm")])
def test_wrong_options_are_usage_errors(env: Env, options: tuple[str, str]) -> None:
    done = env.cli("up", *options)
    assert done.returncode == 2
    assert options[0] in done.stderr


def test_url_and_key_are_for_their_owner_alone(env: Env) -> None:
    for file in (env.data / "connection.env", env.folder / "config/simherd/connection.env"):
        assert file.stat().st_mode & 0o077 == 0
        assert f"SIMHERD_API_URL={env.url}\n" in file.read_text()
    for file in env.data.glob("simherd.db*"):
        assert file.stat().st_mode & 0o077 == 0
    # Only its digest is stored.
    assert not [f for f in env.data.glob("simherd.db*") if env.key.encode() in f.read_bytes()]
    assert env.processes(env.key) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_runs_a_simulation_and_leaves_nothing(tmp_path: Path) -> None:
    splash = REPOSITORY / "simherd" / "demo_data" / "splash.py"
    if subprocess.run([sys.executable, splash, "--version"], check=False).returncode != 0:
        missing("SPlisHSPlasH does not load (pip install '.[demo]')")
    (tmp_path / "tmp").mkdir()
    options = ("--backend", "process", "--output", "out")
    done = Env(tmp_path).command("demo", *options, TMPDIR=str(tmp_path / "tmp"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "simulated 0.9" in done.stdout
    assert "vtk/ParticleData_Fluid_1.vtk" in done.stdout
    assert "Where the time went" in done.stdout
    assert len(list((tmp_path / "out" / "vtk").glob("*.vtk"))) == 11
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "config").exists()
    assert processes_below(tmp_path) == []
