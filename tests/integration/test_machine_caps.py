"""How many machines a provider may have, all users together; with real SQL."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from scheduler.services.accounts.users import create_user
from scheduler.services.bootstrap import bootstrap
from scheduler.services.errors import QuotaExceeded
from scheduler.services.groups.register import GroupRequest, register_group, start_group
from scheduler.services.ids import new_uuid
from scheduler.services.machines.caps import HOST_MACHINES_PER_CORE, cap_of, host_cap
from scheduler.store.models import GroupRow, MachineRow
from tests.support.runtime import Machines, make_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime


@pytest.fixture
def caps() -> dict[str, int]:
    """The setting."""
    return {"local": 10}


@pytest.fixture
def rt(
    database_url: str, store: Store, redis_url: str, tmp_path: Path, caps: dict[str, int]
) -> Runtime:
    with store.write() as session:
        for group in session.scalars(select(GroupRow)):
            group.status = "terminated"
    more: dict[str, Any] = {
        "max_machines": caps,
        "providers": "local,external",
        "bootstrap_key": "k" * 20,
        # The group that the settings ask for is beyond its user's quota.
        "default_quotas": {"max_instances": 2},
    }
    made = make_runtime(database_url, redis_url, tmp_path, **more)[0]
    made.__dict__["providers"] = {"local": Machines(), "external": Machines()}
    return made


def registered(rt: Runtime, machines: int, *, only_check: bool = False, **fields: Any) -> GroupRow:
    """A group of a new user."""
    with rt.store.write() as session:
        user = create_user(session, new_uuid(), "any@localhost").id
    asked = GroupRequest("local", "LOCAL", machines, **fields)
    return register_group(rt, user, asked, only_check=only_check)


def test_a_host_is_bounded_by_its_cores_and_its_memory(
    rt: Runtime, caps: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    caps.clear()
    rt.settings.max_machines.clear()
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(12))
    assert host_cap() <= 12 * HOST_MACHINES_PER_CORE
    for provider in ("local", "docker"):
        assert cap_of(rt.settings, provider) == host_cap()
    # The laptop of the field report: 433 processes.
    with pytest.raises(QuotaExceeded, match=r"500 asked for is too many: .* machines on this host"):
        registered(rt, 500)
    assert cap_of(rt.settings, "ec2") == 100
    assert cap_of(rt.settings, "external") == 1000


def test_groups_of_all_users_count_and_the_sentence_says_who_can_raise_it(rt: Runtime) -> None:
    first, second = registered(rt, 6), registered(rt, 5)
    start_group(rt, first)
    with pytest.raises(QuotaExceeded) as refused:
        start_group(rt, second)
    assert str(refused.value) == (
        "num_machines: the provider 'local' may have 10 machines on this host, all users "
        "together: 6 in use, 5 more asked for. The server's operator can raise it with the setting "
        "SIMHERD_MAX_MACHINES."
    )
    with rt.store.read() as session:
        assert session.get_one(GroupRow, second.id).status == "registered"
    start_group(rt, registered(rt, 4))


def test_a_check_refuses_what_could_not_start_now_and_registers_nothing(rt: Runtime) -> None:
    start_group(rt, registered(rt, 6))

    def groups() -> int:
        with rt.store.read() as session:
            return len(session.scalars(select(GroupRow.id)).all())

    before = groups()
    with pytest.raises(QuotaExceeded, match="6 in use, 5 more asked for"):
        registered(rt, 5, only_check=True)
    registered(rt, 4, only_check=True)
    assert groups() == before


def test_an_elastic_group_counts_with_its_largest_size(rt: Runtime) -> None:
    elastic: dict[str, Any] = {"is_elastic": True, "min_machines": 0}
    with pytest.raises(QuotaExceeded, match=r"11 asked for is too many: .* may have 10 machines"):
        registered(rt, 1, max_machines=11, **elastic)
    start_group(rt, registered(rt, 1, max_machines=8, **elastic))
    with pytest.raises(QuotaExceeded, match="8 in use, 3 more"):
        start_group(rt, registered(rt, 3))


def test_machines_of_a_group_that_is_shut_down_count_until_they_are_gone(rt: Runtime) -> None:
    ending = registered(rt, 6)
    with rt.store.write() as session:
        session.get_one(GroupRow, ending.id).status = "shutting_down"
        for number in range(6):
            name = f"{ending.id}-{number}"
            row = {"id": name, "group_id": ending.id, "name": name, "status": "started"}
            session.add(MachineRow(**row, handle={}, created_at=1.0))
    following = registered(rt, 5)
    with pytest.raises(QuotaExceeded, match="6 in use, 5 more"):
        start_group(rt, following)
    with rt.store.write() as session:
        mine = MachineRow.group_id == ending.id
        session.execute(update(MachineRow).where(mine).values(terminated_at=2.0))
    start_group(rt, following)


def test_providers_are_counted_apart(rt: Runtime) -> None:
    start_group(rt, registered(rt, 10))
    start_group(rt, registered(rt, 20, provider="external"))


def test_of_two_that_start_at_once_one_is_refused(rt: Runtime) -> None:
    groups = [registered(rt, 6) for _ in range(4)]
    together, refusals = threading.Barrier(len(groups)), []

    def start(group: GroupRow) -> None:
        together.wait()
        try:
            start_group(rt, group)
        except QuotaExceeded as error:
            refusals.append(error)

    threads = [threading.Thread(target=start, args=(group,)) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == len(groups) - 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_first_group_of_a_server_fits_onto_its_host(rt: Runtime) -> None:
    bootstrap(rt)
    for machines in (11, 500):
        rt.settings.bootstrap_machines = machines
        with pytest.raises(QuotaExceeded, match=f"{machines} asked for is too many"):
            bootstrap(rt)
    rt.settings.bootstrap_machines = 9
    bootstrap(rt)
