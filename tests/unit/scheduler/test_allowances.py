"""What a user and a provider may have at one time, and which providers are on; in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from scheduler.catalogue.tables import Catalogue, MachineType
from scheduler.services.accounts.provider_access import (
    check_provider_on,
    choose_provider,
    provider_off_reason,
    providers_of,
    set_providers,
    update_provider_detail,
    wire_providers,
)
from scheduler.services.billing.quotas import (
    Quota,
    check_alone,
    check_queue,
    check_start,
    give_defaults,
    set_quota,
)
from scheduler.services.errors import Conflict, Invalid, QuotaExceeded, ResourceNotFound
from scheduler.services.machines import caps
from scheduler.services.machines.caps import DEFAULT_MAX_MACHINES, LEAST_HOST_MACHINES
from scheduler.store.models import GroupRow, MachineRow, User
from tests.support.builders import make_group, make_task
from tests.support.memory import MemoryStore, memory_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

KIND = MachineType("local", 2, 1, on_demand=1.0, spot=0.25, zone="z", region="r")
PROVIDERS = {"AWS": ("ec2", "local"), "LOCAL": ("local",), "GCP": ("external",)}
CATALOGUE = Catalogue({"local": KIND}, PROVIDERS, {}, {}, ())


@pytest.fixture
def session() -> Iterator[Session]:
    with memory_session() as session:
        yield session


def runtime(
    session: Session, on: tuple[str, ...] = ("local", "docker"), cap: dict[str, int] | None = None
) -> Any:
    settings = SimpleNamespace(enabled_providers=on, max_machines=cap or {})
    return SimpleNamespace(settings=settings, catalogue=CATALOGUE, store=MemoryStore(session))


def owner(session: Session, group: GroupRow, **quotas: float) -> User:
    user = session.get_one(User, group.user_id)
    user.quotas = quotas
    session.flush()
    return user


@pytest.mark.parametrize(
    ("fields", "quotas", "exceeded"),
    [
        ({"num_machines": 3}, {}, None),
        ({"num_machines": 3}, {"max_instances": 3}, None),
        ({"num_machines": 3}, {"max_instances": 2}, Quota.MAX_INSTANCES),
        ({"num_machines": 3, "vcpus": 2}, {"max_vcpus": 6}, None),
        ({"num_machines": 3, "vcpus": 2}, {"max_vcpus": 5}, Quota.MAX_VCPUS),
        # The sum of three prices of 0.1 is a little more than 0.3.
        ({"num_machines": 3, "price_hour": 0.1}, {"max_price_hour": 0.3}, None),
        ({"num_machines": 3, "price_hour": 0.1}, {"max_price_hour": 0.29}, Quota.MAX_PRICE_HOUR),
        # An elastic group counts with the most that it may grow to.
        (
            {"num_machines": 0, "max_machines": 4, "is_elastic": True},
            {"max_instances": 3},
            Quota.MAX_INSTANCES,
        ),
        # A spot group that may fall back counts with the dearer price.
        (
            {"spot": True, "on_demand_fallback": True, "price_hour": 0.25},
            {"max_price_hour": 0.9},
            Quota.MAX_PRICE_HOUR,
        ),
        ({"spot": True, "price_hour": 0.25}, {"max_price_hour": 0.9}, None),
        ({"num_machines": 1}, {"max_instances": 0}, Quota.MAX_INSTANCES),
        ({"num_machines": 9}, {"max_queued_tasks": 0, "max_storage_gb": 0}, None),
    ],
)
def test_a_group_against_its_users_quotas(
    session: Session, fields: dict[str, Any], quotas: dict[str, float], exceeded: Quota | None
) -> None:
    group = make_group(session, status="registered", **fields)
    owner(session, group, **quotas)
    for check in (check_alone, check_start):
        if exceeded is None:
            check(runtime(session), session, group)
        else:
            with pytest.raises(QuotaExceeded, match=exceeded.value):
                check(runtime(session), session, group)


@pytest.mark.parametrize(
    ("status", "has_room"),
    [("registered", True), ("starting", False), ("started", False), ("shutting_down", True)],
)
def test_only_groups_that_are_up_take_from_the_quotas(
    session: Session, status: str, has_room: bool
) -> None:
    other = make_group(session, status=status, num_machines=2)
    user = owner(session, other, max_instances=3)
    group = make_group(session, status="registered", num_machines=2, user_id=user.id)
    check_alone(runtime(session), session, group)
    if has_room:
        check_start(runtime(session), session, group)
    else:
        with pytest.raises(QuotaExceeded, match="3 allowed, 2 in use, 2 more asked for"):
            check_start(runtime(session), session, group)


@pytest.mark.parametrize(("allowed", "more", "fits"), [(1, 1, False), (2, 1, True), (2, 2, False)])
def test_tasks_that_wait_are_counted(
    session: Session, allowed: float, more: int, fits: bool
) -> None:
    group = make_group(session)
    quotas = owner(session, group, max_queued_tasks=allowed).quotas
    make_task(session, group)
    make_task(session, group, status="started")  # it does not wait any more
    if fits:
        check_queue(session, group.user_id, quotas, more)
    else:
        with pytest.raises(QuotaExceeded, match="max_queued_tasks"):
            check_queue(session, group.user_id, quotas, more)


@pytest.mark.parametrize(
    ("name", "value"), [("machines", 1.0), ("max_vcpus", -1.0), ("max_vcpus", float("inf"))]
)
def test_a_quota_that_cannot_be_is_refused(session: Session, name: str, value: float) -> None:
    user = owner(session, make_group(session))
    with pytest.raises(Invalid):
        set_quota(session, user.username, name, value)
    assert user.quotas == {}


def test_defaults_fill_in_what_is_not_set(session: Session) -> None:
    user = owner(session, make_group(session), max_vcpus=4)
    given = {"max_vcpus": 8.0, "max_instances": 2.0}
    assert give_defaults(session, "op", given, user.username) == {user.username: ["max_instances"]}
    assert user.quotas == {"max_vcpus": 4, "max_instances": 2.0}
    assert give_defaults(session, "op", given, None) == {}
    with pytest.raises(ResourceNotFound):
        give_defaults(session, "op", given, "nobody")


@pytest.mark.parametrize(
    ("provider", "setting", "cap"),
    [
        ("ec2", {}, DEFAULT_MAX_MACHINES["ec2"]),
        ("ec2", {"ec2": 3}, 3),
        ("ec2", {"ec2": 0}, 0),
        ("unheard-of", {}, None),
        ("local", {"local": 5}, 5),
    ],
)
def test_the_cap_of_a_provider(
    session: Session, provider: str, setting: dict[str, int], cap: int | None
) -> None:
    assert caps.cap_of(runtime(session, cap=setting).settings, provider) == cap


@pytest.mark.parametrize("provider", caps.ON_HOST)
def test_a_host_has_a_cap_by_itself(session: Session, provider: str) -> None:
    cap = caps.cap_of(runtime(session).settings, provider)
    assert cap == caps.host_cap() >= LEAST_HOST_MACHINES


@pytest.mark.parametrize(
    ("other", "machines", "fits"),
    [
        ({"status": "started"}, 0, False),
        ({"status": "registered"}, 0, True),
        ({"status": "shutting_down"}, 0, True),
        ({"status": "shutting_down"}, 2, False),  # they are there until they are gone
        ({"status": "terminated"}, 2, True),
        ({"status": "started", "provider": "docker"}, 0, True),
        ({"status": "started", "num_machines": 1}, 0, True),
        ({"status": "started", "num_machines": 1, "is_elastic": True, "max_machines": 2}, 0, False),
    ],
)
def test_groups_of_one_provider_share_its_cap(
    session: Session, other: dict[str, Any], machines: int, fits: bool
) -> None:
    group = make_group(session, status="registered", num_machines=2)
    beside = make_group(session, **{"num_machines": 2, **other})
    for number in range(machines):
        session.add(
            MachineRow(
                id=f"m{number}",
                group_id=beside.id,
                name="m",
                status="started",
                handle={},
                created_at=1.0,
            )
        )
    session.flush()
    settings = runtime(session, cap={"local": 3}).settings
    caps.check_cap(settings, session, group, alone=True)
    if fits:
        caps.check_cap(settings, session, group)
    else:
        with pytest.raises(QuotaExceeded, match="2 in use, 2 more asked for"):
            caps.check_cap(settings, session, group)


def test_a_group_larger_than_the_cap_is_refused_at_once(session: Session) -> None:
    group = make_group(session, num_machines=4)
    with pytest.raises(QuotaExceeded, match=r"4 asked for is too many.*SIMHERD_MAX_MACHINES"):
        caps.check_cap(runtime(session, cap={"local": 3}).settings, session, group, alone=True)


@pytest.mark.parametrize(
    ("users", "left"),
    [(None, ("local", "docker")), (["docker"], ("docker",)), (["ec2"], ()), ([], ())],
)
def test_the_providers_of_a_user(
    session: Session, users: list[str] | None, left: tuple[str, ...]
) -> None:
    assert providers_of(runtime(session), User(providers=users)) == left


@pytest.mark.parametrize(
    ("on", "table"),
    [
        (("local",), {"AWS": "local", "LOCAL": "local"}),
        (("ec2", "local"), {"AWS": "ec2", "LOCAL": "local"}),
        (("external",), {"GCP": "external"}),
        ((), {}),
    ],
)
def test_a_wire_provider_stands_for_its_first_that_is_on(
    session: Session, on: tuple[str, ...], table: dict[str, str]
) -> None:
    assert wire_providers(runtime(session), on) == table


@pytest.mark.parametrize(
    ("named", "wire", "chosen"),
    [(None, "AWS", "local"), (None, "LOCAL", "local"), ("docker", "AWS", "docker")],
)
def test_the_provider_of_a_new_group(
    session: Session, named: str | None, wire: str, chosen: str
) -> None:
    assert choose_provider(runtime(session), User(providers=None), named, wire) == chosen


@pytest.mark.parametrize(
    ("users", "named", "wire", "says"),
    [
        (None, "ec2", "AWS", "'ec2' is not available to you. There are: local, docker."),
        (None, None, "GCP", "usual provider is not available"),
        (None, None, "AZURE", "'AZURE' is not available to you. There are: AWS, LOCAL."),
        ([], None, "AZURE", "no provider is available to you"),
        ([], "local", "LOCAL", "There are none"),
    ],
)
def test_a_provider_that_is_not_available_is_refused(
    session: Session, users: list[str] | None, named: str | None, wire: str, says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        choose_provider(runtime(session), User(providers=users), named, wire)


@pytest.mark.parametrize(
    ("on", "users", "says"),
    [
        (("local",), None, None),
        (("local",), ["local"], None),
        (("ec2",), None, "on this server"),
        (("local",), ["ec2"], "for ada"),
        ((), ["local"], "on this server"),
    ],
)
def test_why_a_group_may_not_start_machines(
    session: Session, on: tuple[str, ...], users: list[str] | None, says: str | None
) -> None:
    group, user = GroupRow(provider="local"), User(username="ada", providers=users)
    reason = provider_off_reason(runtime(session, on), group, user)
    assert reason is None if says is None else says in str(reason)


def test_a_group_shows_why_until_its_provider_is_on_again(session: Session) -> None:
    group = make_group(session)
    assert not update_provider_detail(runtime(session, ("ec2",)), group)
    with pytest.raises(Conflict, match="switched off on this server"):
        check_provider_on(runtime(session, ("ec2",)), group)
    session.refresh(group)
    assert "switched off on this server" in str(group.status_detail)
    assert update_provider_detail(runtime(session), group)
    session.refresh(group)
    assert group.status_detail is None
    group.status_detail = "No spot capacity."
    assert update_provider_detail(runtime(session), group)
    session.refresh(group)
    assert group.status_detail == "No spot capacity."


def test_a_users_providers_are_stored_once_each(session: Session) -> None:
    user = owner(session, make_group(session))
    set_providers(session, "op", user.username, ["local", "ec2", "local"])
    assert user.providers == ["ec2", "local"]
    with pytest.raises(Invalid, match="'lokal' is not a provider"):
        set_providers(session, "op", user.username, ["lokal"])
    set_providers(session, "op", user.username, None)
    assert user.providers is None
