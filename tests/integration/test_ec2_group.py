"""A machine group on EC2, from its start to its end: launched, joined, interrupted, terminated."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from executor.link.connection import Address
from executor.link.lease import LeaseKeeper, new_token
from scheduler.domain.group_status import GroupStatus
from scheduler.providers.ec2 import Ec2Provider
from scheduler.services.control.sweep import sweep
from scheduler.services.groups.terminate import request_termination, shut_down_group
from scheduler.services.machines import access
from scheduler.services.tasks.explain import explain_task
from scheduler.store.models import GroupRow, MachineRow
from simherd.contract.cause import Cause
from simherd.contract.join import digest, redis_user
from tests.support.builders import make_group, make_task
from tests.support.ec2 import CREDENTIALS, error_answer, settings_for
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime
    from tests.support.ec2 import Cloud

#: moto answers slowly.
pytestmark = pytest.mark.slow


@pytest.fixture
def rt(
    store: Store,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    ec2: Cloud,
    monkeypatch: pytest.MonkeyPatch,
) -> Runtime:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    ec2.forget()
    more = {"ec2": settings_for(ec2), "providers": "ec2"}
    made, _ = make_runtime(database_url, redis_url, tmp_path, **more)
    made.__dict__["providers"] = {"ec2": Ec2Provider(settings_for(ec2))}
    return made


def _group(rt: Runtime, **fields: Any) -> GroupRow:
    values: dict[str, Any] = {"machine_type": "c2-standard-4", "spot": True, "price_hour": 0.05}
    with rt.store.write() as session:
        return make_group(
            session,
            provider="ec2",
            status="starting",
            started_at=time.time(),
            **{**values, **fields},
        )


def _now(rt: Runtime, group: GroupRow) -> tuple[GroupRow, list[MachineRow]]:
    with rt.store.read() as session:
        machines = session.query(MachineRow).filter(MachineRow.group_id == group.id)
        found = machines.order_by(MachineRow.created_at).all()
        return session.get_one(GroupRow, group.id), found


def _ticket(ec2: Cloud, instance: str) -> dict[str, str]:
    """What cloud-init writes on an instance for its agent."""
    attribute = ec2.client.describe_instance_attribute(InstanceId=instance, Attribute="userData")
    text = base64.b64decode(attribute["UserData"]["Value"]).decode()
    files = json.loads(text.partition("\n")[2])["write_files"]
    content = next(f["content"] for f in files if f["path"].endswith("ticket.json"))
    ticket: dict[str, str] = json.loads(content)
    return ticket


def test_a_group_on_ec2_lives_and_ends(rt: Runtime, ec2: Cloud, redis_url: str) -> None:
    group = _group(rt)
    sweep(rt, started_at=0)
    _, (machine,) = _now(rt, group)
    instance = machine.handle["instance_id"]
    assert ec2.instance(instance)["InstanceLifecycle"] == "spot"

    # What runs on the instance joins with what it finds there.
    secret = new_token()
    joined = access.join(rt, _ticket(ec2, instance)["token"], digest(secret))
    assert (joined.machine_id, joined.vcpus) == (machine.id, group.vcpus)
    address = Address(redis_url, redis_user(machine.id), lambda: secret)
    keeper = LeaseKeeper(address, group.id, machine.id)
    keeper.beat([])
    keeper.close()
    sweep(rt, started_at=0)
    assert _now(rt, group)[0].status == GroupStatus.STARTED

    # EC2 takes it away: another stands in.
    ec2.client.terminate_instances(InstanceIds=[instance])
    sweep(rt, started_at=0)
    sweep(rt, started_at=0)
    _, (gone, other) = _now(rt, group)
    assert gone.terminated_at is not None
    assert ec2.tagged("simherd:machine", other.id) == {other.handle["instance_id"]: "running"}

    request_termination(rt, _now(rt, group)[0], Cause.GROUP_TERMINATED)
    while not shut_down_group(rt, group.id):
        pass
    assert set(ec2.tagged("simherd:group", group.id).values()) == {"terminated"}


def test_no_spot_capacity_is_a_state_that_people_see(rt: Runtime, ec2: Cloud) -> None:
    group = _group(rt)
    with rt.store.write() as session:
        task = make_task(session, group)
    ec2.answers["RunInstances"] = error_answer(
        500, "InsufficientInstanceCapacity", "There is no Spot capacity available."
    )
    sweep(rt, started_at=0)
    starting, _ = _now(rt, group)
    assert starting.status == GroupStatus.STARTING
    assert "There is no Spot capacity available." in str(starting.status_detail)
    why = explain_task(rt, task, time.time())
    assert why.reason == "capacity"
    assert "There is no Spot capacity available." in why.sentence
    assert ec2.tagged("simherd:group", group.id) == {}


def test_without_spot_capacity_it_falls_back_where_the_group_says_so(
    rt: Runtime, ec2: Cloud
) -> None:
    _group(rt, on_demand_fallback=True)
    plain = ec2.asked
    ec2.answers["RunInstances"] = error_answer(500, "SpotMaxPriceTooLow", "Too low.")
    sweep(rt, started_at=0)
    asked = [r for r in plain if r["Action"] == "RunInstances"]
    wanted = ["InstanceMarketOptions.MarketType" in request for request in asked]
    assert wanted[0] is True
    assert wanted[-1] is False
