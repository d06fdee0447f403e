"""Where the server is, and where downloads go.

URL and key come from the environment (`SIMHERD_API_URL`, `SIMHERD_API_KEY`), else from the
connection file that `simherd up` and `simherd auth login` leave for this user.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from simherd.errors import NotConnected

URL_VARIABLE = "SIMHERD_API_URL"
KEY_VARIABLE = "SIMHERD_API_KEY"
#: Folder that downloads go to, below the current one.
DEFAULT_OUTPUT_DIR = "simherd_output"

_output_dir: str | None = os.environ.get("SIMHERD_OUTPUT_DIR", DEFAULT_OUTPUT_DIR)


@dataclass(frozen=True)
class Connection:
    """A server and the key to it."""

    url: str
    key: str
    #: Where the key came from, in words for people; empty: somebody has just typed it.
    key_source: str = ""


def connection_file() -> Path:
    """Where this user's URL and key are kept."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "simherd" / "connection.env"


def read_connection() -> Connection:
    """The server to talk to.

    Raises:
        NotConnected: URL or key is not configured.
    """
    kept = _read_file(connection_file())
    url = os.environ.get(URL_VARIABLE) or kept.get(URL_VARIABLE)
    key = os.environ.get(KEY_VARIABLE) or kept.get(KEY_VARIABLE)
    if not url or not key:
        missing = URL_VARIABLE if not url else KEY_VARIABLE
        raise NotConnected(
            f"{missing} is not set and {connection_file()} does not hold it. "
            "Start a server with `simherd up`, or log in to one with `simherd auth login`."
        )
    source = KEY_VARIABLE if os.environ.get(KEY_VARIABLE) else str(connection_file())
    return Connection(url.rstrip("/"), key.strip(), source)


def _read_file(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def write_connection(connection: Connection, path: Path) -> None:
    """Keep URL and key at `path`, for their owner alone to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as writer:
        writer.write(f"{URL_VARIABLE}={connection.url}\n{KEY_VARIABLE}={connection.key}\n")
    new.replace(path)


def get_output_dir() -> str | None:
    """The folder that downloads go to; None: the current one."""
    return _output_dir


def set_output_dir(output_dir: str | None) -> None:
    """Choose the folder that downloads go to; None, or the text "None": the current one."""
    global _output_dir
    _output_dir = None if output_dir == "None" else output_dir


def output_path(name: str | Path) -> Path:
    """`name` inside the folder that downloads go to; an absolute one stays as it is."""
    return Path(_output_dir or ".") / name
