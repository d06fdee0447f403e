"""How a machine joins its group: it shows a ticket once, and says which secret it will use.

The secret is made on the machine and never leaves it but to prove who it is: what the scheduler
keeps, and what Redis checks against, is its SHA-256. A repeated request with the same secret
changes nothing, so an answer that is lost costs nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from simherd.contract.typed_json import from_json, parse_object

#: Route under which machines join and change their secrets.
ROUTE = "/v1/machines"
#: Headers with which a machine proves who it is.
MACHINE_HEADER, SECRET_HEADER = "X-Machine-Id", "X-Machine-Secret"


def redis_user(machine_id: str) -> str:
    """The name of a machine's own Redis user."""
    return f"machine-{machine_id}"


def network_name(group_id: str) -> str:
    """The container network of a group whose machines work together."""
    return f"simherd-{group_id[:8]}"


def digest(secret: str) -> str:
    """What is kept of a secret. They are long and random: a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class Membership:
    """What a machine learns when it joins."""

    machine_id: str
    machine_name: str
    group_id: str
    #: Where it reaches Redis; who it is there, see `redis_user`.
    redis_url: str
    machine_type: str
    #: 0 where the machine knows better itself.
    vcpus: int
    memory_bytes: int
    #: What all attempts may put on the work disk, bytes; 0 is as much as there is.
    disk_bytes: int
    #: Seconds for which the scheduler leaves a silent machine its attempts.
    reconnect_s: int
    #: The fields of `Policy`.
    policy: dict[str, Any]
    #: How many machines belong to the group, and whether all of them work on one task together.
    machines: int = 1
    mpi: bool = False

    @classmethod
    def decode(cls, text: str | bytes) -> Membership:
        """Read the JSON of its fields. Raises WrongJson."""
        return from_json(cls, parse_object(text, "membership"))
