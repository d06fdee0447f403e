"""A short day of a spot fleet: machines that are containers are reclaimed and freeze."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("machine_image")
def test_every_task_of_a_spot_fleet_ends_once_and_right() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.spot_day", "--short"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "every promise held" in done.stdout
    assert "frozen" in done.stdout
    assert "spot_reclaimed" in done.stdout
