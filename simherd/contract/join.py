"""How a machine joins its group: it sends a ticket once, with the digest of its secret.

The machine makes the secret and sends it only to prove its identity: the scheduler and Redis keep
its SHA-256. A repeated request with the same secret changes nothing, so a lost response costs
nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from simherd.contract.typed_json import from_json, parse_object

#: Route under which machines join and change their secrets.
ROUTE = "/v1/machines"
#: Headers with which a machine proves its identity.
MACHINE_HEADER, SECRET_HEADER = "X-Machine-Id", "X-Machine-Secret"


def redis_user(machine_id: str) -> str:
    """Return the name of a machine's Redis user."""
    return f"machine-{machine_id}"


def network_name(group_id: str) -> str:
    """Return the container network of an MPI group."""
    return f"simherd-{group_id[:8]}"


def digest(secret: str) -> str:
    """Return the stored form of a secret, which is long and random: a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class Membership:
    """What a machine gets when it joins."""

    machine_id: str
    machine_name: str
    group_id: str
    #: Redis' address; for the user see `redis_user`.
    redis_url: str
    machine_type: str
    #: 0 where the machine is to measure it.
    vcpus: int
    memory_bytes: int
    #: The most that all attempts may write to the work disk, bytes; 0 means its size.
    disk_bytes: int
    #: Seconds for which a silent machine keeps its attempts.
    reconnect_s: int
    #: The fields of `Policy`.
    policy: dict[str, Any]
    #: The number of machines of the group, and whether all of them work on one task together.
    machines: int = 1
    mpi: bool = False

    @classmethod
    def decode(cls, text: str | bytes) -> Membership:
        """Read the JSON of its fields. Raises WrongJson."""
        return from_json(cls, parse_object(text, "membership"))
