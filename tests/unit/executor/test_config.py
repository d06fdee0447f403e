"""Settings of an executor that cannot be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from executor.config import Config, ConfigError, ExecutorFolders, metrics_address
from simherd.contract.join import Membership

GOOD = {
    "SIMHERD_STATE_DIR": "/state",
    "SIMHERD_TICKET_FILE": "/ticket",
    "SIMHERD_BACKEND": "docker",
}


def read(env: dict[str, str]) -> Config:
    member = Membership("m", "m", "g", "redis://x", "local", 1, 1024, 0, 600, {})
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
