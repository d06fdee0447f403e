"""The storage functions and commands of the published client, unmodified."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.env import zipped
from tests.support.web import web_server
from tests.system.test_inductiva import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Env
    from tests.support.web import Web

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as made:
        made.files["mesh.stl"] = b"mesh"
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a folder `case` in it."""
    (tmp_path / "case" / "sub").mkdir(parents=True)
    (tmp_path / "case" / "in.txt").write_text("data")
    (tmp_path / "case" / "sub" / "deep.txt").write_text("deep")
    return tmp_path


@pytest.mark.conforms(
    *("storage.upload", "storage.listdir", "storage.copy", "storage.download", "storage.remove"),
    *("storage.upload_from_url", "storage.get_space_used"),
    face="inductiva",
)
def test_every_storage_function(env: Env, place: Path, web: Web) -> None:
    name = f"pub{time.time_ns()}"
    query = {"operation": "upload", "paths": f"{name}/output.zip"}  # which this client refuses to
    (url,) = env.api.get("/storage/signed-urls", params=query).json()
    archive = zipped({"x.txt": "x", "y/z.txt": "z"}, "artifacts/")
    assert httpx.put(url, content=archive, trust_env=False).status_code == 200
    script = f"""
import time
from inductiva import client, storage
storage.upload("case", "{name}")
listed = storage.listdir("{name}", order_by="size", sort_order="asc")
seen["listed"] = sorted(e["name"] for e in listed)
storage.copy("{name}/in.txt", "{name}/copy.txt")
storage.upload_from_url("{web.url}/files/mesh.stl", "{name}")
while not any(e["name"] == "mesh.stl" for e in storage.listdir("{name}", print_results=False)):
    time.sleep(0.05)
storage.download("{name}/mesh.stl", "one")
storage.download("{name}/sub", "some")
storage.download("{name}/output.zip/x.txt", "inner")
storage.download("{name}/output.zip", "whole")
seen["all"] = len(storage.listdir("{name}", max_results=None, print_results=False))
seen["used"] = storage.get_space_used()
storage.remove("{name}/sub")
storage.remove("{name}")
try:
    storage.remove("{name}")
except client.exceptions.NotFoundException:
    seen["gone"] = True
"""
    seen = run(env, place, script)
    assert seen["listed"] == ["in.txt", "output.zip", "sub/"]
    assert seen["all"] == 5
    assert seen["gone"] is True
    assert (place / "one" / name / "mesh.stl").read_text() == "mesh"
    assert (place / "some" / name / "sub" / "deep.txt").read_text() == "deep"
    assert [p.read_text() for p in (place / "inner").rglob("x.txt")] == ["x"]
    assert [p.read_text() for p in (place / "whole").rglob("z.txt")] == ["z"]


@pytest.mark.conforms(
    *("storage list", "storage upload", "storage download", "storage remove", "storage size"),
    *("storage bucket list", "containers list", "containers remove"),
    face="inductiva",
)
def test_every_storage_command(env: Env, place: Path) -> None:
    program = Path(sys.executable).with_name("inductiva")

    def cli(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments],
            cwd=place,
            env={**env.environment, **env.connection},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    name = f"my{time.time_ns()}"
    cli("storage", "upload", "case", name)
    assert "in.txt" in cli("storage", "ls", name, "-o", "size", "-s", "asc")
    cli("storage", "dl", f"{name}/in.txt", "got")
    assert (place / "got" / name / "in.txt").read_text() == "data"
    assert "B" in cli("storage", "size")
    assert "local" in cli("storage", "bucket", "list")
    assert "in.txt" in cli("containers", "list", name)
    cli("containers", "rm", name, "-n", "in.txt", "-y")
    assert "in.txt" not in cli("containers", "list", name)
    cli("storage", "rm", name, "-y")
    assert "not found" in cli("containers", "list", name)
