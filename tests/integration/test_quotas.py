"""What users may have at one time, and what months cost; with real SQL."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from scheduler.objects.stored_bytes import StoredBytes
from scheduler.services.billing.quotas import Quota, quota_states, set_quota
from scheduler.services.billing.user_costs import (
    Month,
    costs_by_group,
    costs_by_month,
    costs_by_project,
    months_between,
)
from scheduler.services.errors import Invalid, QuotaExceeded, ResourceNotFound
from scheduler.services.groups.register import GroupRequest, register_group, start_group
from scheduler.services.ids import new_uuid
from scheduler.services.tasks.submit import NewTask, submit_tasks
from scheduler.store.models import GroupRow, MachineRow, User
from simherd.contract.lifecycle import Status
from tests.support.builders import make_group, make_task
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime


class Account:
    """A user with one started group of two vCPUs, US$ 0.1 per hour."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        with rt.store.write() as session:
            self.group = make_group(session)
        self.id = self.group.user_id

    @property
    def user(self) -> User:
        with self.rt.store.read() as session:
            return session.get_one(User, self.id)

    def limit(self, quota: Quota, value: float | None) -> None:
        username = self.user.username
        with self.rt.store.write() as session:
            set_quota(session, username, quota.value, value)

    def register(self, **fields: Any) -> GroupRow:
        request = GroupRequest("c2-standard-4", "GCP", **fields)
        return register_group(self.rt, self.id, request)

    def start(self, **fields: Any) -> None:
        start_group(self.rt, self.register(**fields))

    def submit(self) -> str:
        asked = NewTask(
            self.group.id, "any", None, "any", extra_params={"commands": [{"cmd": "true"}]}
        )
        return submit_tasks(self.rt, self.id, [asked])[0].task_id

    def states(self) -> dict[str, tuple[float | None, float | None]]:
        return {s.quota.value: (s.allowed, s.in_use) for s in quota_states(self.rt, self.user)}


@pytest.fixture
def account(database_url: str, store: Store, redis_url: str, tmp_path: Path) -> Account:
    more = {"max_machines": {"local": 1000}}
    return Account(make_runtime(database_url, redis_url, tmp_path, **more)[0])


def test_a_user_without_quotas_is_not_limited(account: Account) -> None:
    account.start(num_machines=500)
    account.submit()
    assert account.states() == {
        "max_price_hour": (None, pytest.approx(0.1 + 500 * 0.05)),
        "max_vcpus": (None, 2 + 500 * 4),
        "max_instances": (None, 501),
        "max_queued_tasks": (None, 1),
        "max_storage_gb": (None, 0),
    }


@pytest.mark.parametrize(
    ("quota", "allowed", "sentence"),
    [
        (Quota.MAX_INSTANCES, 3, "max_instances: 3 allowed, 1 in use, 3 more asked for."),
        (Quota.MAX_VCPUS, 13, "max_vcpus: 13 allowed, 2 in use, 12 more asked for."),
        (Quota.MAX_PRICE_HOUR, 0.2, "max_price_hour: 0.2 allowed, 0.1 in use, 0.15 more asked"),
    ],
)
def test_a_group_is_started_where_there_is_room(
    account: Account, quota: Quota, allowed: float, sentence: str
) -> None:
    account.limit(quota, allowed)
    # It may be registered all the same: the published client waits with it for room.
    group = account.register(num_machines=3)
    with pytest.raises(QuotaExceeded, match=sentence.replace(".", r"\.")):
        start_group(account.rt, group)
    account.limit(quota, None)
    start_group(account.rt, group)


def test_a_request_that_exactly_fits_is_accepted(account: Account) -> None:
    account.limit(Quota.MAX_INSTANCES, 4)
    account.limit(Quota.MAX_VCPUS, 14)
    account.limit(Quota.MAX_PRICE_HOUR, 0.25)
    account.start(num_machines=3)
    assert account.states()["max_instances"] == (4, 4)


def test_an_elastic_group_counts_with_the_most_that_it_may_grow_to(account: Account) -> None:
    account.limit(Quota.MAX_INSTANCES, 8)
    account.start(num_machines=1, min_machines=1, max_machines=6, is_elastic=True)
    assert account.states()["max_instances"] == (8, 7)
    with pytest.raises(QuotaExceeded, match="7 in use, 2 more"):
        account.start(num_machines=2)


def test_a_group_that_could_never_start_is_not_registered(account: Account) -> None:
    account.limit(Quota.MAX_VCPUS, 8)
    with pytest.raises(
        QuotaExceeded, match="max_vcpus: 12 asked for is more than the 8 allowed alt"
    ):
        account.register(num_machines=3)


def test_what_is_refused_alone_says_nothing_of_what_is_in_use(account: Account) -> None:
    account.start(num_machines=5)
    account.limit(Quota.MAX_INSTANCES, 6)
    with pytest.raises(QuotaExceeded) as refused:
        account.register(num_machines=7)
    assert "max_instances: 7 asked for is more than the 6 allowed" in str(refused.value)
    assert "in use" not in str(refused.value)


def test_so_many_tasks_may_wait(account: Account) -> None:
    account.limit(Quota.MAX_QUEUED_TASKS, 2)
    account.submit()
    account.submit()
    with pytest.raises(QuotaExceeded, match="max_queued_tasks: 2 allowed, 2 in use, 1 more"):
        account.submit()
    with account.rt.store.write() as session:
        make_task(session, account.group, status=Status.STARTED.value)
    account.limit(Quota.MAX_QUEUED_TASKS, 3)
    account.submit()


def test_a_user_over_the_storage_quota_submits_nothing_more(
    account: Account, tmp_path: Path
) -> None:
    class Sized:
        """A storage with one object in it."""

        size = 2 * 1024**3
        listed = 0

        def list(self, user: str, prefix: str) -> list[Sized]:
            self.listed += 1
            return [self]

    objects = Sized()
    account.rt.__dict__["stored"] = StoredBytes(objects)  # type: ignore[arg-type]
    account.submit()
    assert objects.listed == 0
    account.limit(Quota.MAX_STORAGE_GB, 1.5)
    for _ in range(2):
        with pytest.raises(
            QuotaExceeded, match=r"max_storage_gb: 1\.5 GiB allowed, 2 GiB in use\."
        ):
            account.submit()
    assert account.states()["max_storage_gb"] == (1.5, 2)
    account.limit(Quota.MAX_STORAGE_GB, 3)
    listed = objects.listed
    account.submit()
    assert objects.listed == listed


def test_a_quota_that_cannot_be_is_refused(account: Account) -> None:
    username = account.user.username
    for name, value, error in (
        ("max_vcpus", -1, Invalid),
        ("max_vcpus", float("nan"), Invalid),
        ("max_luck", 1, Invalid),
    ):
        with pytest.raises(error), account.rt.store.write() as session:
            set_quota(session, username, name, value)
    with pytest.raises(ResourceNotFound), account.rt.store.write() as session:
        set_quota(session, "nobody", "max_vcpus", 1)
    assert account.user.quotas == {}


def machine(account: Account, begun: float, ended: float | None, **fields: Any) -> None:
    name = new_uuid()
    with account.rt.store.write() as session:
        session.add(
            MachineRow(
                id=name,
                group_id=account.group.id,
                name=name,
                status="any",
                handle={},
                created_at=begun,
                launched_at=begun,
                terminated_at=ended,
                **fields,
            )
        )


def test_machines_cost_month_by_month(account: Account) -> None:
    hour = 3600.0
    may, june, july = months_between(Month(2026, 5), Month(2026, 7))
    turn, now = june.span[0], july.span[0] + 10 * hour
    machine(account, turn - 2 * hour, turn + 3 * hour)  # at the group's price, 0.1
    machine(account, july.span[0] + hour, None, price_hour=2.0)
    with account.rt.store.write() as session:
        # One that is still to be launched costs nothing.
        session.add(
            MachineRow(
                id=new_uuid(),
                group_id=account.group.id,
                name="wanted",
                status="any",
                handle={},
                created_at=turn,
            )
        )
    with account.rt.store.read() as session:
        found = costs_by_month(session, account.id, [may, june, july], now)
        groups = costs_by_group(session, account.id, june, now)
        nothing = costs_by_month(session, account.id, [Month(2020, 1)], now)
        assert costs_by_project(session, account.id, june, now) == []
    assert found == {
        may: pytest.approx(0.2),
        june: pytest.approx(0.3),
        july: pytest.approx(18.0),
    }
    assert [g.name for g in groups] == [account.group.name]
    assert (groups[0].cost, groups[0].hours) == pytest.approx((0.3, 3.0))
    assert nothing == {Month(2020, 1): 0.0}


def test_ten_years_are_one_question(account: Account) -> None:
    months = months_between(Month(2017, 1), Month(2026, 12))
    with account.rt.store.read() as session:
        found = costs_by_month(session, account.id, months, time.time())
    assert len(found) == 120
    assert set(found.values()) == {0.0}
