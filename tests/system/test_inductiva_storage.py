"""The storage functions and commands of the published client, unmodified."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.env import zipped
from tests.support.web import web_server
from tests.system.test_inductiva import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.env import Env
    from tests.support.web import Web

pytestmark = pytest.mark.slow

#: Printed after each command.
_MARK = "=== done ==="


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
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
    "GET /storage/contents",
    "GET /storage/zip-contents",
    "GET /storage/zip-file-range",
    "POST /storage/copy",
    "POST /storage/input_remote",
    face="inductiva",
)
@pytest.mark.conforms(
    *("storage.upload", "storage.listdir", "storage.copy", "storage.download", "storage.remove"),
    *("storage.upload_from_url", "storage.get_space_used"),
    face="inductiva",
)
def test_every_storage_function(env: Env, place: Path, source: Web) -> None:
    name = f"pub{time.time_ns()}"
    query = {"operation": "upload", "paths": f"{name}/output.zip"}  # which this client refuses to
    (url,) = env.api.get("/storage/signed-urls", params=query).json()
    archive = zipped({"x.txt": "x", "y/z.txt": "z"}, "artifacts/")
    assert httpx.put(url, content=archive, trust_env=False, timeout=60).status_code == 200
    script = f"""
import time
from inductiva import client, storage
storage.upload("case", "{name}")
listed = storage.listdir("{name}", order_by="size", sort_order="asc")
seen["listed"] = sorted(e["name"] for e in listed)
storage.copy("{name}/in.txt", "{name}/copy.txt")
storage.upload_from_url("{source.url}/files/mesh.stl", "{name}")
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
    "GET /storage/size",
    "GET /storage/cost",
    "GET /storage/list_buckets",
    "GET /storage/default_bucket",
    "7.11",
    face="inductiva",
)
@pytest.mark.conforms(
    *("storage list", "storage upload", "storage download", "storage remove", "storage size"),
    *("storage bucket list", "containers list", "containers remove"),
    face="inductiva",
)
def test_every_storage_command(env: Env, place: Path) -> None:
    name = f"my{time.time_ns()}"
    commands = [
        ["storage", "upload", "case", name],
        ["storage", "ls", name, "-o", "size", "-s", "asc"],
        ["storage", "dl", f"{name}/in.txt", "got"],
        ["storage", "size"],
        ["storage", "bucket", "list"],
        ["containers", "list", name],
        ["containers", "rm", name, "-n", "in.txt", "-y"],
        ["containers", "list", name],
        ["storage", "rm", name, "-y"],
        ["containers", "list", name],
    ]
    said = _said(env, place, commands)
    assert "in.txt" in said[1]
    assert (place / "got" / name / "in.txt").read_text() == "data"
    assert "Volume:" in said[3]
    assert "local" in said[4]
    assert "in.txt" in said[5]
    assert "in.txt" not in said[7]
    assert "not found" in said[9]


def _said(env: Env, folder: Path, commands: list[list[str]]) -> list[str]:
    """What each command printed. One process runs them all: each takes seconds to start."""
    script = f"""
import sys
sys.argv = ["inductiva"]
from inductiva._cli.main import main
for command in {commands!r}:
    sys.argv = ["inductiva", *command]
    main()
    print("{_MARK}")
"""
    return env.python(script, folder).split(_MARK)
