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
    patience, broken = ReconnectPolicy(clock), Unreachable("broken")
    patience.worked()
    clock.now += 10_000
    pauses = [patience.broke(broken) for _ in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1 < pauses[-1] <= 5
    clock.now += PATIENCE_S
    patience.broke(broken)
    patience.worked()
    clock.now += PATIENCE_S
    assert patience.broke(broken) == pauses[0]
    clock.now += PATIENCE_S + 1
    with pytest.raises(Unreachable):
        patience.broke(broken)


@pytest.mark.parametrize("status", [401, 404, 422])
def test_a_refusal_is_final(status: int) -> None:
    with pytest.raises(ApiError, match="no"):
        ReconnectPolicy().broke(ApiError("no", status))
    assert ReconnectPolicy().broke(ApiError("later", 503)) > 0
