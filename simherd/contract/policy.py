"""What the containers of a machine group may do: set by its owner, never by a task."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from simherd.contract.typed_json import WrongJson, from_json, parse_object, to_json

#: Processes a simulation may have at one time.
PIDS_LIMIT = 4096
#: Open files that a simulation's process may have.
OPEN_FILES = 65536
#: Size of a container's /tmp, bytes.
TMP_BYTES = 1024**3
#: Size of a container's shared memory, bytes: MPI codes need more than Docker's 64 MB.
SHM_BYTES = 1024**3

#: The environment variable that allows the backend `process`, which isolates nothing: a simulation
#: has all rights of the account of its agent.
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
    """The policy of a group. The defaults are the strictest with which simulations work."""

    #: Whether a task may use the network. The cloud's metadata address stays unreachable.
    network: bool = False
    #: Whether files of the image may be changed; changes are lost.
    writable_root: bool = False
    #: Linux capabilities that are not dropped, such as SYS_PTRACE.
    capabilities: tuple[str, ...] = ()
    #: Whether containers get the machine's GPUs.
    gpus: bool = True
    pids: int = PIDS_LIMIT
    open_files: int = OPEN_FILES
    #: Sizes of /dev/shm and /tmp, which are in memory and count as such.
    shm_bytes: int = SHM_BYTES
    tmp_bytes: int = TMP_BYTES
    #: Limits of one container; 0 means the machine's, divided by its slots.
    memory_bytes: int = 0
    cpus: float = 0

    def encode(self) -> str:
        """Return the JSON that `decode` reads."""
        return to_json(self)

    @classmethod
    def decode(cls, text: str) -> Policy:
        """Read what `encode` wrote. Raises WrongJson."""
        return cls.read(parse_object(text, "policy"))

    @classmethod
    def read(cls, given: Any) -> Policy:
        """Return a policy from an object of its fields; those that are missing have their defaults.
        Raises WrongJson: naming the field."""
        known = [f.name for f in fields(cls)]
        for name in given if isinstance(given, dict) else ():
            if name not in known:
                raise WrongJson(f"policy.{name}: not known. There are: {', '.join(known)}.")
        policy = from_json(cls, given, "policy")
        for name, most in _MOST.items():
            value = getattr(policy, name)
            if not 0 <= value <= most:
                raise WrongJson(f"policy.{name}: a number from 0 to {most}, not {value!r}.")
        for value in policy.capabilities:
            if not _CAPABILITY.fullmatch(value):
                raise WrongJson(f"policy.capabilities: names such as SYS_PTRACE, not {value!r}.")
        return policy
