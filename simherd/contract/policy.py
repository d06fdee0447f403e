"""What the containers of a machine group may do: set by who starts the group, never by a task."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from simherd.contract import limits

#: The environment variable that allows the backend `process`, which isolates nothing: a simulation
#: reads and does whatever the account of its agent may.
INSECURE_BACKEND = "SIMHERD_INSECURE_PROCESS_BACKEND"

_CAPABILITY = re.compile("[A-Z_]{3,40}")
_MOST = {
    "pids": 4_194_304,
    "open_files": 1_048_576,
    "shm_bytes": 2**50,
    "tmp_bytes": 2**50,
    "memory_bytes": 2**50,
    "cpus": 4096,
}


@dataclass(frozen=True)
class Policy:
    """The defaults are the strictest that simulations can live with."""

    #: Whether a task may ask for the network. The cloud's metadata address stays out of reach.
    network: bool = False
    #: Whether the image's own files may be written to; what is written is lost.
    writable_root: bool = False
    #: Linux capabilities that are not dropped, such as SYS_PTRACE.
    capabilities: tuple[str, ...] = ()
    #: Whether containers get the machine's GPUs, where it has some.
    gpus: bool = True
    pids: int = limits.PIDS_LIMIT
    open_files: int = limits.OPEN_FILES
    #: Sizes of /dev/shm and /tmp. Both live in memory and count as such.
    shm_bytes: int = limits.SHM_BYTES
    tmp_bytes: int = limits.TMP_BYTES
    #: What one container may have; 0 is the machine's, shared out among its slots.
    memory_bytes: int = 0
    cpus: float = 0

    def encode(self) -> str:
        """The JSON that `decode` reads."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Policy:
        """Read what `encode` wrote. Raises ValueError."""
        return cls.read(json.loads(text))

    @classmethod
    def read(cls, given: Any) -> Policy:
        """A policy from an object of its fields; those that are missing have their defaults.

        Raises:
            ValueError: naming the field.
        """
        if not isinstance(given, dict):
            raise ValueError(f"policy: an object is needed, not {given!r}.")
        known = {f.name: f.default for f in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise ValueError(f"policy.{name}: not known. There are: {', '.join(known)}.")
            values[name] = _checked(name, value, known[name])
        return cls(**values)


def _checked(name: str, value: Any, default: Any) -> Any:
    if name == "capabilities":
        if not isinstance(value, list | tuple) or not all(
            isinstance(v, str) and _CAPABILITY.fullmatch(v) for v in value
        ):
            raise ValueError(f"policy.{name}: a list of names such as SYS_PTRACE, not {value!r}.")
        return tuple(value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"policy.{name}: true or false, not {value!r}.")
        return value
    number = isinstance(value, int) or (name == "cpus" and isinstance(value, float))
    if not number or isinstance(value, bool) or not 0 <= value <= _MOST[name]:
        raise ValueError(f"policy.{name}: a number from 0 to {_MOST[name]}, not {value!r}.")
    return value
