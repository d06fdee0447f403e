"""How machines of `simherd up` run simulations: with the Docker engine, or not isolated."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds that the engine has for `docker info`.
_ENGINE_S = 10
#: Where a data folder keeps the backend that it ran with last.
_RECORD = "run/backend"
#: What every data folder has that was started once.
_STARTED = "connection.env"


class BackendError(Exception):
    """Simulations cannot run as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Choice:
    """The backend, `docker` or `process`, and what the user must be warned of, or nothing."""

    backend: str
    warning: str = ""


def choose(asked: str | None, data_dir: Path) -> Choice:
    """The backend for a data folder.

    Args:
        asked: what the user asked for; None leaves the choice to the engine's state.
        data_dir: the folder; it need not exist.

    Raises:
        BackendError: the engine does not respond and is needed: it was asked for, or the folder ran
            with it before, so that a stopped engine would silently remove the isolation.
    """
    if asked == "process":
        return Choice(asked)
    trouble = engine_trouble()
    if trouble is None:
        return Choice("docker")
    says = f"The Docker engine does not respond ({trouble})"
    if asked == "docker":
        raise BackendError(
            f"{says}. Start Docker, or say --backend process: simulations are then plain "
            "processes and are not isolated from this machine."
        )
    last = last_backend(data_dir)
    # A folder of an earlier release has no record: it may have been isolated.
    is_old = last is None and (data_dir / _STARTED).exists()
    if last == "docker" or is_old:
        ran = "may have run with it before" if is_old else "ran with it before"
        raise BackendError(
            f"{says}, and {data_dir} {ran}. Start Docker, or say --backend process "
            "if simulations may run as plain processes that are not isolated from this machine."
        )
    return Choice(
        "process",
        f"{says}; simulations run as plain processes and are not isolated from this machine. "
        "Start Docker, or say --backend process to silence this.",
    )


def engine_trouble() -> str | None:
    """Why the Docker engine of this machine cannot be used; None: it responds."""
    if shutil.which("docker") is None:
        return "the command docker is not installed"
    try:
        done = subprocess.run(
            ["docker", "info"],
            capture_output=True,
            timeout=_ENGINE_S,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return f"docker info took longer than {_ENGINE_S} s"
    except OSError as error:
        return f"docker cannot be started: {error.strerror}"
    if done.returncode == 0:
        return None
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = said[-1].removeprefix("ERROR: ") if said else f"docker info: {done.returncode}"
    return reason.rstrip(".")


def last_backend(data_dir: Path) -> str | None:
    """The backend that a data folder ran with last; None: it is new, or of an earlier release."""
    try:
        return (data_dir / _RECORD).read_text().strip()
    except OSError:
        return None


def record(data_dir: Path, backend: str) -> None:
    """Note the backend that a data folder runs with."""
    (data_dir / _RECORD).write_text(f"{backend}\n")
