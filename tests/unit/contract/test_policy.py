"""A machine group's policy: what it can say, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from simherd.contract.policy import Policy


def test_a_policy_survives_a_round_trip() -> None:
    policy = Policy(network=True, capabilities=("SYS_NICE",), shm_bytes=5, cpus=1.5)
    assert Policy.decode(policy.encode()) == policy
    assert Policy.decode("{}") == Policy()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"privileged": True}, "policy.privileged"),
        ({"network": "yes"}, "policy.network"),
        ({"pids": -1}, "policy.pids"),
        ({"pids": True}, "policy.pids"),
        ({"shm_bytes": 1.5}, "policy.shm_bytes"),
        ({"cpus": float("nan")}, "policy.cpus"),
        ({"capabilities": "ALL"}, "policy.capabilities"),
        ({"capabilities": ["--privileged"]}, "policy.capabilities"),
        ([], "policy"),
    ],
)
def test_what_cannot_be_is_named(given: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Policy.read(given)
