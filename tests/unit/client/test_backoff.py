"""Waits between two tries: they double, have a longest one, and may be scattered."""

from __future__ import annotations

import itertools

import pytest

from simherd.runtime.backoff import Backoff


@pytest.mark.parametrize(
    ("failures", "wait"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 5), (6, 5), (1000, 5)]
)
def test_a_wait_doubles_up_to_the_longest(failures: int, wait: float) -> None:
    assert Backoff(0.5, 5).after(failures) == wait


def test_waits_begin_with_the_first_and_never_end() -> None:
    assert list(itertools.islice(Backoff(1, 4).waits(), 5)) == [1, 2, 4, 4, 4]


def test_two_loops_do_not_share_their_waits() -> None:
    backoff = Backoff(1, 4)
    first = backoff.waits()
    assert [next(first), next(first)] == [1, 2]
    assert next(backoff.waits()) == 1


def test_jitter_scales_each_wait_within_its_bounds() -> None:
    waits = [Backoff(8, 8, jitter=(0.5, 1.5)).after(1) for _ in range(200)]
    assert 4 <= min(waits) < 7 < 9 < max(waits) <= 12
