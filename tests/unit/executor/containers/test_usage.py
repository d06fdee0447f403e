"""What processes use, and the files of control groups of either version."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from executor.containers import usage as module
from executor.containers.usage import Cgroup, Usage, of_processes

if TYPE_CHECKING:
    from pathlib import Path

V1 = {
    "memory.stat": "cache 5\ntotal_inactive_file 300\n",
    "memory.usage_in_bytes": "1000\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory.max_usage_in_bytes": "1500\n",
    "pids.current": "3\n",
    "pids.peak": "9\n",
    "pids.events": "max 4\n",
    "cpuacct.usage": "2500000000\n",
    "blkio.throttle.io_service_bytes": "8:0 Read 10\n8:0 Write 20\n8:16 Read 1\nTotal 31\n",
}
V2 = {
    "memory.stat": "anon 700\ninactive_file 300\n",
    "memory.current": "1000\n",
    "memory.peak": "1500\n",
    "memory.events": "low 0\noom 1\noom_kill 2\n",
    "pids.current": "3\n",
    "pids.peak": "9\n",
    "pids.events": "max 4\n",
    "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=0\n",
}
ALL = Usage(2.5, 700, 3, 11, 20, 2, 4, 1500, 9)


def group(
    folder: Path, files: dict[str, str], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> Cgroup:
    """A control group whose controllers all lie in one folder."""
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(module, "_places", lambda _pid: dict.fromkeys(names, folder))
    return Cgroup(1)


V1_NAMES = ["memory", "pids", "cpuacct", "blkio"]


@pytest.mark.parametrize(("files", "names"), [(V1, V1_NAMES), (V2, [""])], ids=["v1", "v2"])
def test_either_version_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], names: list[str]
) -> None:
    assert group(tmp_path, files, names, monkeypatch).read() == ALL


@pytest.mark.parametrize("missing", ["memory.peak", "pids.peak", "io.stat", "pids.events"])
def test_usage_that_an_older_kernel_lacks_is_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    files = {name: text for name, text in V2.items() if name != missing}
    found = group(tmp_path, files, [""], monkeypatch).read()
    assert found != ALL
    assert found.cpu_s == 2.5


def test_controllers_that_are_not_there_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = group(tmp_path, V1, ["memory"], monkeypatch).read()
    assert found == Usage(memory_bytes=700, oom_kills=2, memory_peak_bytes=1500)


def test_memory_that_is_all_cache_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**V2, "memory.current": "100\n"}
    assert group(tmp_path, files, [""], monkeypatch).read().memory_bytes == 0


@pytest.mark.parametrize(("files", "names"), [(V1, V1_NAMES), (V2, [""])], ids=["v1", "v2"])
def test_a_container_that_is_gone_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], names: list[str]
) -> None:
    folder = tmp_path / "group"
    folder.mkdir()
    found = group(folder, files, names, monkeypatch)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        found.read()
    assert found.alarms() == []


@pytest.mark.parametrize(
    ("files", "names", "alarms"),
    [(V1, ["memory", "pids"], {"pids.events"}), (V2, [""], {"pids.events", "memory.events"})],
    ids=["v1", "v2"],
)
def test_limits_have_files_that_poll(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    names: list[str],
    alarms: set[str],
) -> None:
    opened = group(tmp_path, files, names, monkeypatch).alarms()
    assert {os.path.basename(str(file.name)) for file in opened} == alarms
    for file in opened:
        file.close()


@pytest.mark.parametrize("names", [[], ["pids"], ["cpuacct", "blkio"]])
def test_without_a_group_for_memory_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    with pytest.raises(LookupError):
        group(tmp_path, {}, names, monkeypatch)


def test_a_process_that_is_gone_has_no_control_group() -> None:
    with pytest.raises(FileNotFoundError):
        Cgroup(2**22 + 1)


def test_processes_are_counted_together_without_those_that_are_gone() -> None:
    mine = of_processes([os.getpid()])
    both = of_processes([os.getpid(), 2**22 + 1])
    assert (mine.processes, both.processes) == (1, 1)
    assert mine.memory_bytes > 1024**2
    assert mine.cpu_s > 0
    assert of_processes([]) == Usage()
