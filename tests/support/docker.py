"""What the Docker engine of this machine knows."""

from __future__ import annotations

import subprocess


def containers(task_id: str) -> list[str]:
    """The ids of a task's containers, running or not."""
    done = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=simherd.task={task_id}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()
