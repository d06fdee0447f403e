"""What the Docker engine of this machine knows."""

from __future__ import annotations

import shutil
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


def has_image(image: str) -> bool:
    """Whether the engine has an image."""
    argv = ["docker", "image", "inspect", image]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def has_compose() -> bool:
    """Whether there is a docker compose, the newer or the older one."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return plugin.returncode == 0 or shutil.which("docker-compose") is not None


def label(container: str, name: str) -> str:
    """The value of a container's label."""
    argv = ["docker", "inspect", "-f", f'{{{{index .Config.Labels "{name}"}}}}', container]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def docker(*argv: str) -> str:
    """What a docker command prints."""
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
