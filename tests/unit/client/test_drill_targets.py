"""Which machines and services a drill chooses, and what it refuses to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from simherd_drills.errors import DockerUnavailable, DrillNotPossible
from simherd_drills.targets import Targets

from simherd.contract import labels
from simherd.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Thing:
    """A machine, a Redis or a store, as far as a choice needs it."""

    name: str
    kind: str = "project a"
    id: str = ""
    role: str = labels.REDIS


class Host(Targets):
    """A host with these machines and services; and perhaps an engine that does not respond."""

    def __init__(
        self,
        machines: Sequence[Thing] = (),
        services: Sequence[Thing] = (),
        own: Thing | None = None,
        trouble: str = "",
    ) -> None:
        super().__init__(None, None)
        self._all, self._there, self._own = list(machines), list(services), own
        self._trouble = DockerUnavailable(trouble) if trouble else None

    def _look(self) -> Any:
        return self._all, self._trouble

    def services(self) -> Any:
        if self._trouble:
            raise self._trouble
        return self._there

    def _own_redis(self) -> Any:
        return self._own


MACHINES = [Thing("m-1", id="1"), Thing("m-2", id="2"), Thing("m-3", id="3")]
OWN = Thing("redis", "simherd up")
DOWN = "Docker does not respond."


@pytest.mark.parametrize("name", ["m-2", "2"])
def test_a_machine_is_named_by_name_or_id(name: str) -> None:
    assert [m.id for m in Host(MACHINES).named([name])] == ["2"]


def test_an_unknown_machine_is_refused_with_what_shows_them() -> None:
    with pytest.raises(InvalidInput, match=r"^target: 'm-9' is not a Simherd machine .* sim list"):
        Host(MACHINES).named(["m-9"])


def test_a_name_of_several_machines_needs_an_id() -> None:
    with pytest.raises(InvalidInput, match="2 machines are called 'm-1'; say its id: 1, 7"):
        Host([*MACHINES, Thing("m-1", id="7")]).named(["m-1"])


def test_without_an_engine_the_machines_that_are_processes_can_be_named() -> None:
    host = Host(MACHINES, trouble=DOWN)
    assert len(host.machines()) == 3
    assert [m.id for m in host.named(["m-1"])] == ["1"]
    with pytest.raises(DockerUnavailable):
        host.named(["m-1", "m-9"])
    with pytest.raises(DockerUnavailable):
        Host(trouble=DOWN).machines()


def test_a_seed_always_chooses_the_same_machines_of_those_ids() -> None:
    chosen = {tuple(m.id for m in Host(MACHINES).some(["1", "3"], 1, 7)) for _ in range(9)}
    assert len(chosen) == 1
    assert chosen < {("1",), ("3",)}
    assert {m.id for m in Host(MACHINES).some(["1", "3"], 2, 7)} == {"1", "3"}


def test_more_machines_than_there_are_is_refused() -> None:
    with pytest.raises(InvalidInput, match="count: 3 is more than the 2 machines on this host"):
        Host(MACHINES).some(["1", "3"], 3, 7)
    with pytest.raises(DockerUnavailable):
        Host(MACHINES, trouble=DOWN).some(["1"], 2, 7)


@pytest.mark.parametrize(
    ("services", "own", "names", "several", "chosen"),
    [
        ([], OWN, [], False, ["redis"]),
        ([Thing("r1")], None, [], False, ["r1"]),
        ([Thing("r1"), Thing("r2")], None, ["r2"], False, ["r2"]),
        ([Thing("r1"), Thing("r2")], None, ["r1", "r2"], False, ["r1", "r2"]),
        ([Thing("r1"), Thing("r2")], None, [], True, ["r1", "r2"]),
    ],
)
def test_redis_is_chosen_where_it_is_clear(
    services: list[Thing], own: Thing | None, names: list[str], several: bool, chosen: list[str]
) -> None:
    found = Host(services=services, own=own).redis(names, several=several)
    assert [r.name for r in found] == chosen


@pytest.mark.parametrize(
    ("services", "own", "names", "several", "sentence"),
    [
        ([], None, [], False, "not clear which Redis; there is: none"),
        ([Thing("r1"), Thing("r2")], None, [], False, r"not clear .*r1 \(project a\), r2"),
        ([Thing("r1")], OWN, [], True, "not clear which Redis"),
        ([Thing("r1"), Thing("r1", "project b")], None, ["r1"], False, "--project"),
        ([Thing("r1")], None, ["postgres"], False, "'postgres' is not a Simherd Redis"),
    ],
)
def test_redis_is_not_guessed(
    services: list[Thing], own: Thing | None, names: list[str], several: bool, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        Host(services=services, own=own).redis(names, several=several)


def test_the_folder_of_simherd_up_is_not_a_store() -> None:
    with pytest.raises(DrillNotPossible, match="is a folder that its API serves"):
        Host(own=OWN, trouble=DOWN).storage([])
    with pytest.raises(DockerUnavailable):
        Host(trouble=DOWN).storage([])
    store = Thing("s3", role=labels.STORAGE)
    chosen: Any = Host(services=[store, Thing("r1")], own=OWN).storage([])
    assert chosen == [store]
