"""The units: systemd takes them, and what they promise is in them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import missing
from tests.support.stack import DEPLOY

if TYPE_CHECKING:
    from pathlib import Path

UNITS = DEPLOY / "systemd"
_PROGRAMS = (
    "opt/simherd/bin/python",
    "opt/simherd/bin/simherd-executor",
    "opt/simherd/bin/simherd-scheduler",
    "usr/bin/redis-server",
    "bin/sh",
    "bin/mkdir",
)


def settings(unit: str) -> dict[str, list[str]]:
    """Name → values, in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host as systemd sees it: with the units, and the programs that they start."""
    if shutil.which("systemd-analyze") is None:
        missing("there is no systemd-analyze on this machine (apt-get install systemd)")
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.target")):
        shutil.copy(unit, folder)
    for program in _PROGRAMS:
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o755)
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = ["systemd-analyze", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_systemd_takes_them(host: Path) -> None:
    names = [path.name.replace("@.", "@api.") for path in sorted(UNITS.glob("simherd-*"))]

    checked = analyze("verify", f"--root={host}", *names)
    assert (checked.returncode, checked.stderr) == (0, "")

    # It would have said so.
    unit = host / "etc/systemd/system/simherd-redis.service"
    unit.write_text(unit.read_text().replace("Restart=", "Rstart="))
    assert "Rstart" in analyze("verify", f"--root={host}", unit.name).stderr


@pytest.mark.parametrize("unit", ["simherd-scheduler@api.service", "simherd-redis.service"])
def test_what_is_reached_from_outside_may_do_little(host: Path, unit: str) -> None:
    # As systemd counts it, from 0 to 10; threshold in tenths.
    told = analyze("security", "--offline=true", "--threshold=20", f"--root={host}", unit)
    assert told.returncode == 0, told.stdout


def test_an_agent_s_end_leaves_its_containers() -> None:
    unit = settings("simherd-executor.service")
    assert unit["KillMode"] == ["process"]
    assert unit["Restart"] == ["always"]
    assert unit["OOMScoreAdjust"] == ["-500"]
    # Any of these would give it a mount namespace, or take its loop devices.
    apart = ("Private", "Protect", "ReadOnly", "ReadWrite", "Inaccessible", "Temporary", "Bind")
    assert [name for name in unit if name.startswith(apart)] == []
    assert not {"User", "RootDirectory", "DevicePolicy", "DeviceAllow"} & unit.keys()


def test_the_scheduler_is_nobody_special() -> None:
    unit = settings("simherd-scheduler@.service")
    assert unit["User"] == ["simherd"]
    assert unit["EnvironmentFile"] == ["/etc/simherd/scheduler.env"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["Restart"] == ["always"]
    started = settings("simherd-scheduler.target")["Wants"][0].split()
    assert started == [
        f"simherd-scheduler@{name}.service" for name in ("api", "worker", "recorder")
    ]
