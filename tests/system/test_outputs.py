"""Promise 6: outputs are stored whole, in one pass, without a second copy on the machine's disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024**2
#: Several parts of an upload.
_LARGE = 80 * MIB


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """A Simherd that the tests here may break."""
    made = Env(tmp_path_factory.mktemp("outputs"), "--backend", "process", SIMHERD_SWEEP_S="1")
    yield made.start()
    made.stop()


def _write(size: int) -> str:
    return f"sh -c 'head -c {size} /dev/urandom > large.bin; sha256sum large.bin > sum.txt'"


def _manifest(env: Env, task_id: str) -> list[dict[str, Any]]:
    path = env.task(task_id)["storage_output_path"].replace("output.zip", "manifest.jsonl")
    query = {"operation": "download", "paths": path}
    (url,) = env.api.get("/storage/signed-urls", params=query).json()
    return [
        json.loads(line) for line in httpx.get(url, trust_env=False, timeout=60).text.splitlines()
    ]


def _uploading(env: Env, task_id: str) -> bool:
    history = env.task(task_id)["status_history"]
    operations = [o for h in history for o in h["operations"]]
    return any(o["name"] == "upload_output" and o["status"] == "RUNNING" for o in operations)


def _unfinished(env: Env) -> list[Path]:
    return list((env.data / "storage").rglob(".upload-*"))


def _stored_bytes(env: Env) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in _unfinished(env))
    return 0


class _DiskUse:
    """The most that a folder held while this ran, bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0

    def __enter__(self) -> _DiskUse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            total = 0
            for folder, _, names in os.walk(self._folder):
                for name in names:
                    try:
                        total += os.lstat(os.path.join(folder, name)).st_blocks * 512
                    except FileNotFoundError:
                        continue
            self.most = max(self.most, total)


@pytest.mark.slow
def test_large_outputs_arrive_without_a_second_copy(own: Env) -> None:
    with _DiskUse(own.data / "machines") as use:
        task_id = own.submit(_write(_LARGE), compress_with="NONE")
        assert own.wait(task_id)["status"] == "success"
    assert use.most < _LARGE + 4 * MIB
    outputs = own.outputs(task_id)
    digest = hashlib.sha256(outputs["large.bin"]).hexdigest()
    assert outputs["sum.txt"].split()[0].decode() == digest
    entry = next(e for e in _manifest(own, task_id) if e["path"] == "large.bin")
    assert (entry["size"], entry["sha256"]) == (_LARGE, digest)
    assert _unfinished(own) == []


@pytest.mark.slow
def test_a_storage_that_breaks_down_costs_nothing_but_time(own: Env) -> None:
    task_id = own.submit(_write(_LARGE))
    # A part of it: an upload whose beginning was not answered would be begun once more.
    until(lambda: _stored_bytes(own), what="the upload to go on")
    own.kill_part("api")
    assert until(lambda: _ended(own, task_id), what="the end")["status"] == "success"
    outputs = own.outputs(task_id)
    assert (
        outputs["sum.txt"].split()[0].decode() == hashlib.sha256(outputs["large.bin"]).hexdigest()
    )
    assert _unfinished(own) == []


def _ended(env: Env, task_id: str) -> dict[str, Any] | None:
    try:
        task = env.task(task_id)
    except httpx.TransportError:
        return None
    return task if task.get("is_terminated") else None


@pytest.mark.slow
def test_a_kill_that_discards_ends_an_upload(own: Env) -> None:
    writing = f"sh -c 'head -c {20 * _LARGE} /dev/zero > large.bin'"
    task_id = own.submit(writing, compress_with="NONE")
    until(lambda: _uploading(own, task_id), what="the upload")
    assert own.cli("tasks", "kill", "-y", task_id).returncode == 0
    # What is kept is still being uploaded; thinking better of it ends that.
    done = own.cli("tasks", "kill", "-y", "--discard", "--wait-timeout", "60", task_id)
    assert done.returncode == 0, done.stderr
    assert own.status(task_id) == "killed"
    own.nothing_is_left()
    assert _unfinished(own) == []
    stored = {file.name for file in (own.data / "storage").rglob(f"*{task_id}/**/*")}
    assert "output.zip" not in stored


def test_what_a_folder_can_hold_comes_back_as_it_was(env: Env, tmp_path: Path) -> None:
    script = (
        "mkdir -p d/empty; echo x > d/run.sh; chmod 755 d/run.sh; ln -s run.sh d/link; "
        "touch -d @1600000000 d/old; mkfifo pipe; truncate -s 20M sparse"
    )
    task_id = env.submit(f"sh -c '{script}'")
    assert env.wait(task_id)["status"] == "success"
    assert env.cli("tasks", "download", task_id, "--dir", str(tmp_path)).returncode == 0
    (found,) = tmp_path.rglob("d")
    assert (found / "empty").is_dir()
    assert os.readlink(found / "link") == "run.sh"
    assert os.access(found / "run.sh", os.X_OK)
    assert (found / "old").stat().st_mtime == 1_600_000_000
    sparse = (found.parent / "sparse").stat()
    assert (sparse.st_size, sparse.st_blocks) == (20 * MIB, 0)
    entries = {e["path"]: e for e in _manifest(env, task_id) if "path" in e}
    assert "FIFO" in entries["pipe"]["note"]
    assert entries["d/run.sh"]["mode"] == "0755"
