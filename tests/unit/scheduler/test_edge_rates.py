"""Rate limits and shares of an API process."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import HTTPException

from scheduler.api.edge.rates import BodyBudget, Buckets, KnownKeys, Lane, Shares


def test_a_bucket_fills_with_time() -> None:
    now = [100.0]
    buckets = Buckets(2, 3, lambda: now[0])
    assert [buckets.take("ada") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("bob") == 0
    now[0] += 0.5
    assert buckets.take("ada") == 0
    assert buckets.wait_s("ada") == 0.5
    now[0] += 100
    assert [buckets.take("ada") for _ in range(4)] == [0, 0, 0, 0.5]


def test_names_beyond_the_table_are_forgotten() -> None:
    buckets, keys = Buckets(0.001, 1, lambda: 0.0), KnownKeys()
    for number in range(10_001):
        assert buckets.take(str(number)) == 0
        keys.add(str(number))
    assert buckets.take("10000") > 0
    assert buckets.take("0") == 0
    assert "0" not in keys
    assert "10000" in keys


def test_one_address_never_takes_the_whole_lane() -> None:
    lane = Lane(4, "Full.")
    with lane.entered("a"), lane.entered("a"):
        with pytest.raises(HTTPException) as refused, lane.entered("a"):
            pass
        assert refused.value.status_code == 503
        with lane.entered("b"):
            pass
    with lane.entered("a"):
        pass


def test_the_budget_of_bodies_is_one_of_each_and_one_of_all() -> None:
    budget = BodyBudget(most=10, most_of_one=6)
    budget.charge("a", 6)
    with pytest.raises(HTTPException) as own:
        budget.charge("a", 1)
    with pytest.raises(HTTPException) as all_of_it:
        budget.charge("b", 5)
    assert (own.value.status_code, all_of_it.value.status_code) == (429, 503)
    budget.release("a", 6)
    budget.charge("b", 6)
    assert budget.held == 6


def test_a_names_requests_beyond_its_share_wait_in_order() -> None:
    async def run() -> None:
        shares, gate, began = Shares(2, 2, "Too many."), asyncio.Event(), []

        async def request(name: str, number: int) -> None:
            async with shares.held(name):
                began.append((name, number))
                await gate.wait()

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(request("a", number))
            group.create_task(request("b", 0))
            await asyncio.sleep(0)
            assert began == [("a", 0), ("a", 1), ("b", 0)]
            with pytest.raises(HTTPException) as refused:
                await request("a", 4)
            assert refused.value.status_code == 429
            assert (refused.value.headers or {})["Retry-After"]
            gate.set()
        assert began[3:] == [("a", 2), ("a", 3)]
        assert len(shares) == 0

    asyncio.run(run())


def test_a_share_is_free_again_after_an_error_and_after_a_cancellation() -> None:
    async def run() -> None:
        shares = Shares(1, 1, "Too many.")
        with pytest.raises(ValueError, match="x"):
            async with shares.held("a"):
                raise ValueError("x")

        async def request() -> None:
            async with shares.held("a"):
                await asyncio.Event().wait()

        inside, waiting = asyncio.create_task(request()), asyncio.create_task(request())
        await asyncio.sleep(0)
        for task in (waiting, inside):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with shares.held("a"):
            assert len(shares) == 1
        assert len(shares) == 0

    asyncio.run(run())
