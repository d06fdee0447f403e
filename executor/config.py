"""Settings of an executor, from its environment and from its membership."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from executor.link.connection import Address
from executor.spot.sources import open_source
from simherd.contract.join import redis_user
from simherd.contract.policy import INSECURE_BACKEND, Policy
from simherd.runtime.health import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.join import Identity

#: Bytes of a machine's disks that tasks are never given, at the most.
DISK_RESERVE_BYTES = 5 * 1024**3


_LAST_PORT = 65535
#: The digits of the largest number of bytes.
_MOST_DIGITS = 19


class ConfigError(ValueError):
    """A setting is missing or invalid; the message names it."""


@dataclass(frozen=True)
class ExecutorFolders:
    """The paths of an executor's state and ticket; the variables are `SIMHERD_` + name."""

    state_dir: Path
    ticket_file: Path

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> ExecutorFolders:
        """Read the environment. Raises ConfigError."""
        return cls(Path(_need(env, "STATE_DIR")), Path(_need(env, "TICKET_FILE")))


@dataclass(frozen=True)
class Config:
    """The settings of an executor; those outside its membership are `SIMHERD_` + name."""

    redis: Address
    group_id: str
    executor_id: str
    executor_name: str
    machine_type: str
    state_dir: Path
    backend: str
    slots: int
    vcpus: int
    memory_bytes: int
    #: Seconds for which the scheduler leaves a silent machine its attempts.
    reconnect_s: int
    #: What all attempts may put on the work disk, bytes; 0 means no limit.
    disk_bytes: int
    #: What tasks never get of the machine's disks, bytes.
    disk_reserve_bytes: int
    policy: Policy
    #: How many machines belong to the group, and whether all of them work on one task together.
    machines: int
    mpi: bool
    #: Whether the next attempt's inputs may be fetched while all slots compute.
    stage_ahead: bool
    #: The source of reclaim notices; empty where there is none.
    spot_notices: str

    @classmethod
    def of(
        cls, folders: ExecutorFolders, identity: Identity, env: Mapping[str, str] = os.environ
    ) -> Config:
        """Read the environment and the machine's membership.
        Raises ConfigError: a setting is missing or invalid."""
        member = identity.membership
        user = redis_user(member.machine_id)
        return cls(
            redis=Address(member.redis_url, user, lambda: identity.secret),
            group_id=member.group_id,
            executor_id=member.machine_id,
            executor_name=member.machine_name,
            machine_type=member.machine_type,
            state_dir=folders.state_dir,
            backend=_one_of(env, "BACKEND", ("docker", "process")),
            slots=1 if member.mpi else _number(env, "SLOTS", "1", least=1),
            vcpus=member.vcpus or os.cpu_count() or 1,
            memory_bytes=member.memory_bytes or psutil.virtual_memory().total,
            disk_bytes=member.disk_bytes,
            disk_reserve_bytes=_number(env, "DISK_RESERVE_BYTES", str(DISK_RESERVE_BYTES)),
            policy=_policy(member.policy),
            machines=member.machines,
            mpi=member.mpi,
            stage_ahead=_number(env, "STAGE_AHEAD", "1") > 0 and not member.mpi,
            reconnect_s=member.reconnect_s,
            spot_notices=_source(env),
        )


def metrics_address(env: Mapping[str, str]) -> tuple[str, int] | None:
    """Return host and port of the agent's health and metrics; None when they are not served. Port 0
    means any free one. Raises ConfigError."""
    if not env.get("SIMHERD_METRICS_PORT"):
        return None
    port = _number(env, "METRICS_PORT", "0")
    if port > _LAST_PORT:
        raise ConfigError(f"SIMHERD_METRICS_PORT is {port}; it can be from 0 to {_LAST_PORT}.")
    return env.get("SIMHERD_METRICS_HOST", HOST), port


def check_isolation(env: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError when the backend isolates nothing and the environment does not allow it."""
    is_process = env.get("SIMHERD_BACKEND") == "process"
    if is_process and env.get(INSECURE_BACKEND, "").lower() not in ("true", "1"):
        raise ConfigError(
            "SIMHERD_BACKEND is 'process', which does not isolate simulations: they read whatever "
            f"this account does. Use 'docker', or set {INSECURE_BACKEND}=true if every user who "
            "sends tasks here is trusted with this machine."
        )


def _policy(given: object) -> Policy:
    try:
        return Policy.read(given)
    except ValueError as error:
        raise ConfigError(f"The group's policy: {error}") from error


def _source(env: Mapping[str, str]) -> str:
    given = env.get("SIMHERD_SPOT_NOTICES", "")
    try:
        open_source(given)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return given


def _need(env: Mapping[str, str], name: str) -> str:
    value = env.get(f"SIMHERD_{name}", "")
    if not value:
        raise ConfigError(f"SIMHERD_{name} is not set.")
    return value


def _one_of(env: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = _need(env, name)
    if value not in allowed:
        raise ConfigError(f"SIMHERD_{name} is {value!r}; it can be {' or '.join(allowed)}.")
    return value


def _number(env: Mapping[str, str], name: str, default: str, least: int = 0) -> int:
    value = env.get(f"SIMHERD_{name}", default)
    # Python needs long to read a number of very many digits.
    is_number = value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
    if not is_number or int(value) < least:
        raise ConfigError(
            f"SIMHERD_{name} is {value[:80]!r}; a whole number from {least} on is needed, without "
            "a unit."
        )
    return int(value)
