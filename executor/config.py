"""Settings of an executor, read once from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simherd.contract import limits
from simherd.contract.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping


class ConfigError(ValueError):
    """A setting is missing or cannot be; the message names it."""


@dataclass(frozen=True)
class Config:
    """What an executor is told at its start; the variables are `SIMHERD_` and the name."""

    redis_url: str
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
    #: What all attempts may put on the work disk, bytes; 0 is as much as there is.
    disk_bytes: int
    #: What tasks never get of the machine's disks, bytes.
    disk_reserve_bytes: int
    policy: Policy
    #: Whether the next attempt's inputs may be fetched while all slots compute.
    stage_ahead: bool

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Config:
        """Read the environment.

        Raises:
            ConfigError: a setting is missing or is not of its kind.
        """
        return cls(
            redis_url=_need(env, "REDIS_URL"),
            group_id=_need(env, "GROUP_ID"),
            executor_id=_need(env, "EXECUTOR_ID"),
            executor_name=env.get("SIMHERD_EXECUTOR_NAME", "") or _need(env, "EXECUTOR_ID"),
            machine_type=env.get("SIMHERD_MACHINE_TYPE", "n/a"),
            state_dir=Path(_need(env, "STATE_DIR")),
            backend=_one_of(env, "BACKEND", ("docker", "process")),
            slots=_number(env, "SLOTS", "1"),
            vcpus=_number(env, "VCPUS", str(os.cpu_count() or 1)),
            memory_bytes=_number(env, "MEMORY_BYTES", "0"),
            disk_bytes=_number(env, "DISK_BYTES", "0"),
            disk_reserve_bytes=_number(env, "DISK_RESERVE_BYTES", str(limits.DISK_RESERVE_BYTES)),
            policy=_policy(env),
            stage_ahead=_number(env, "STAGE_AHEAD", "1") > 0,
            reconnect_s=_number(env, "RECONNECT_S", str(int(limits.RECONNECT_WINDOW_S))),
        )


def _policy(env: Mapping[str, str]) -> Policy:
    try:
        return Policy.decode(env.get("SIMHERD_POLICY") or "{}")
    except ValueError as error:
        raise ConfigError(f"SIMHERD_POLICY: {error}") from error


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


def _number(env: Mapping[str, str], name: str, default: str) -> int:
    value = env.get(f"SIMHERD_{name}", default)
    if not value.isdigit():
        raise ConfigError(f"SIMHERD_{name} is {value!r}; a whole number is needed.")
    return int(value)
