"""Settings of an executor: each variable, what it means, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from executor.config import (
    DISK_RESERVE_BYTES,
    Config,
    ConfigError,
    ExecutorFolders,
    check_isolation,
    metrics_address,
)
from simherd.contract.join import Membership

GOOD = {
    "SIMHERD_STATE_DIR": "/state",
    "SIMHERD_TICKET_FILE": "/ticket",
    "SIMHERD_BACKEND": "docker",
}


def read(env: dict[str, str], **fields: Any) -> Config:
    member = Membership("m", "m", "g", "redis://x", "local", 1, 1024, 0, 600, {})
    member = replace(member, **fields)
    identity: Any = SimpleNamespace(membership=member, secret="s")
    metrics_address(env)
    return Config.of(ExecutorFolders.from_env(env), identity, env)


def test_what_is_needed_is_enough() -> None:
    config = read(GOOD)
    assert (config.state_dir, config.slots, config.stage_ahead) == (Path("/state"), 1, True)


@pytest.mark.fault("B46")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "") for name in ("STATE_DIR", "TICKET_FILE", "BACKEND")),
        ("BACKEND", "podman"),
        *(("SLOTS", value) for value in ("0", "-1", "2x", "1.5", "²", "9" * 5000)),
        ("DISK_RESERVE_BYTES", "5GB"),
        ("STAGE_AHEAD", "yes"),
        ("METRICS_PORT", "70000"),
        ("METRICS_PORT", "http"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^SIMHERD_{name} is ") as refused:
        read({**GOOD, f"SIMHERD_{name}": value})
    assert len(str(refused.value)) < 300
    assert value[:10] in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "field", "result"),
    [
        ("BACKEND", "process", "backend", "process"),
        ("BACKEND", "docker", "backend", "docker"),
        ("SLOTS", "3", "slots", 3),
        ("SLOTS", "007", "slots", 7),
        ("DISK_RESERVE_BYTES", "0", "disk_reserve_bytes", 0),
        ("DISK_RESERVE_BYTES", "123", "disk_reserve_bytes", 123),
        ("STAGE_AHEAD", "0", "stage_ahead", False),
        ("STAGE_AHEAD", "1", "stage_ahead", True),
        ("SPOT_NOTICES", "", "spot_notices", ""),
        ("SPOT_NOTICES", "aws", "spot_notices", "aws"),
        ("STATE_DIR", "/other", "state_dir", Path("/other")),
    ],
)
def test_each_variable_sets_its_field(name: str, value: str, field: str, result: object) -> None:
    assert getattr(read({**GOOD, f"SIMHERD_{name}": value}), field) == result


def test_what_is_not_set_has_its_default() -> None:
    config = read(GOOD)
    assert config.disk_reserve_bytes == DISK_RESERVE_BYTES
    assert (config.spot_notices, config.mpi, config.machines) == ("", False, 1)


@pytest.mark.parametrize(
    ("fields", "field", "result"),
    [
        ({"vcpus": 8}, "vcpus", 8),
        ({"memory_bytes": 2048}, "memory_bytes", 2048),
        ({"disk_bytes": 77}, "disk_bytes", 77),
        ({"reconnect_s": 5}, "reconnect_s", 5),
        ({"machine_name": "n"}, "executor_name", "n"),
        ({"machine_type": "t"}, "machine_type", "t"),
        ({"group_id": "h"}, "group_id", "h"),
        ({"machines": 4, "mpi": True}, "machines", 4),
    ],
)
def test_the_membership_says_the_rest(fields: dict[str, Any], field: str, result: object) -> None:
    assert getattr(read(GOOD, **fields), field) == result


@pytest.mark.parametrize("field", ["vcpus", "memory_bytes"])
def test_what_the_membership_leaves_open_is_the_machines_own(field: str) -> None:
    assert getattr(read(GOOD, **{field: 0}), field) > 0


def test_machines_that_work_together_have_one_slot_and_fetch_nothing_ahead() -> None:
    config = read({**GOOD, "SIMHERD_SLOTS": "8"}, machines=2, mpi=True)
    assert (config.slots, config.stage_ahead) == (1, False)


@pytest.mark.parametrize("policy", [[], "x", {"unknown": 1}, {"pids": "many"}])
def test_a_policy_that_cannot_be_is_refused(policy: Any) -> None:
    with pytest.raises(ConfigError, match="policy"):
        read(GOOD, policy=policy)


@pytest.mark.parametrize(
    ("env", "address"),
    [
        ({}, None),
        ({"SIMHERD_METRICS_PORT": ""}, None),
        ({"SIMHERD_METRICS_PORT": "0"}, ("127.0.0.1", 0)),
        ({"SIMHERD_METRICS_PORT": "65535"}, ("127.0.0.1", 65535)),
        ({"SIMHERD_METRICS_PORT": "9", "SIMHERD_METRICS_HOST": "0.0.0.0"}, ("0.0.0.0", 9)),
    ],
)
def test_where_metrics_are_served(env: dict[str, str], address: tuple[str, int] | None) -> None:
    assert metrics_address(env) == address


@pytest.mark.parametrize(
    ("backend", "allows", "is_refused"),
    [
        ("docker", "", False),
        ("process", "", True),
        ("process", "false", True),
        ("process", "yes", True),
        ("process", "true", False),
        ("process", "TRUE", False),
        ("process", "1", False),
    ],
)
def test_a_backend_that_isolates_nothing_must_be_allowed(
    backend: str, allows: str, is_refused: bool
) -> None:
    env = {"SIMHERD_BACKEND": backend, "SIMHERD_INSECURE_PROCESS_BACKEND": allows}
    if not is_refused:
        check_isolation(env)
        return
    with pytest.raises(ConfigError, match="does not isolate"):
        check_isolation(env)
