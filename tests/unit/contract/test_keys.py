"""The keys of a machine group: names that agents of release 0.1 know, all under one hash tag."""

from __future__ import annotations

import pytest

from simherd.contract.queue.keys import GroupKeys, group_of

KEYS = GroupKeys("g-1")

#: Names and types as they stand in Redis: a change would lose what is there.
STORED = {
    "queue": ("simherd:{g-1}:queue", "zset"),
    "leases": ("simherd:{g-1}:leases", "zset"),
    "machines": ("simherd:{g-1}:machines", "zset"),
    "ready": ("simherd:{g-1}:ready", "zset"),
    "specs": ("simherd:{g-1}:specs", "hash"),
    "facts": ("simherd:{g-1}:facts", "hash"),
    "staged": ("simherd:{g-1}:staged", "hash"),
    "overtaken": ("simherd:{g-1}:overtaken", "hash"),
    "fair": ("simherd:{g-1}:fair", "hash"),
    "gangs": ("simherd:{g-1}:gangs", "hash"),
    "claims": ("simherd:{g-1}:claimed:last", "hash"),
    "recorded": ("simherd:{g-1}:recorded", "hash"),
    "place": ("simherd:{g-1}:place", "hash"),
    "events": ("simherd:{g-1}:events", "stream"),
    "bell": ("simherd:{g-1}:bell", "list"),
}


def test_the_fixed_keys_are_those_in_redis() -> None:
    assert KEYS.fixed() == STORED


@pytest.mark.parametrize("name", STORED)
def test_each_is_an_attribute(name: str) -> None:
    assert getattr(KEYS, name) == STORED[name][0]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (KEYS.nothing, "simherd:{g-1}:nothing"),
        (KEYS.every, "simherd:{g-1}:*"),
        (KEYS.lease("t:1"), "simherd:{g-1}:lease:t:1"),
        (KEYS.inbox("m"), "simherd:{g-1}:inbox:m"),
        (KEYS.live("r"), "simherd:{g-1}:live:r"),
    ],
)
def test_keys_of_which_there_are_many(key: str, name: str) -> None:
    assert key == name
    assert group_of(key) == "g-1"


@pytest.mark.parametrize("key", ["simherd:epoch", "other:{g-1}:queue", "simherd:{g-1", ""])
def test_other_keys_belong_to_no_group(key: str) -> None:
    assert group_of(key) is None


def test_a_machine_may_use_no_inbox_but_its_own() -> None:
    patterns = KEYS.of_executor("m")
    assert KEYS.inbox("m") in patterns
    assert KEYS.inbox("*") not in patterns
    assert KEYS.gangs not in patterns


def test_machines_of_an_mpi_group_write_to_one_another() -> None:
    assert {KEYS.inbox("*"), KEYS.gangs, KEYS.ready} <= set(KEYS.of_executor("m", gangs=True))
