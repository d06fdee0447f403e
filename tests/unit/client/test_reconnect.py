"""A connection that breaks after a long silence is begun anew all the same."""

from __future__ import annotations

import pytest

from simherd.errors import ApiError, Unreachable
from simherd.http import PATIENCE_S
from simherd.reconnect import ReconnectPolicy


class Clock:
    """A time that tests move."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_counts_from_the_first_failure_on() -> None:
    clock = Clock()
    policy, broken = ReconnectPolicy(clock), Unreachable("broken")
    policy.received()
    clock.now += 10_000
    pauses = [policy.pause_after(broken) for _ in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1 < pauses[-1] <= 5
    clock.now += PATIENCE_S
    policy.pause_after(broken)
    policy.received()
    clock.now += PATIENCE_S
    assert policy.pause_after(broken) == pauses[0]
    clock.now += PATIENCE_S + 1
    with pytest.raises(Unreachable):
        policy.pause_after(broken)


@pytest.mark.parametrize("status", [401, 404, 422])
def test_a_refusal_is_final(status: int) -> None:
    with pytest.raises(ApiError, match="no"):
        ReconnectPolicy().pause_after(ApiError("no", status))
    assert ReconnectPolicy().pause_after(ApiError("later", 503)) > 0
