"""What goes wrong on EC2, and what is said of it, against a real server over HTTP."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scheduler.providers.base import (
    LaunchRefused,
    LaunchTicket,
    MachineState,
    NoCapacity,
    Uncertain,
)
from scheduler.providers.ec2 import Ec2Provider
from simherd.local.stack import free_port
from tests.support.ec2 import CREDENTIALS, Cloud, end, error_answer, plan_for, settings_for

if TYPE_CHECKING:
    from scheduler.config import Ec2Settings

#: moto answers slowly.
pytestmark = pytest.mark.slow

POLICY = Path(__file__).parents[3] / "deploy/iam/scheduler-ec2.json"


@pytest.fixture
def cloud(ec2: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    ec2.forget()
    return ec2


@pytest.fixture
def settings(cloud: Cloud) -> Ec2Settings:
    return settings_for(cloud)


@pytest.fixture
def provider(settings: Ec2Settings) -> Ec2Provider:
    return Ec2Provider(settings)


def test_who_broke_down_may_have_launched_it_all_the_same(
    cloud: Cloud, provider: Ec2Provider
) -> None:
    cloud.answers["RunInstances"] = error_answer(500, "SomethingOfTheirs", "We broke down")
    with pytest.raises(Uncertain, match="SomethingOfTheirs: We broke down"):
        provider.launch(plan_for(spot=True))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InsufficientInstanceCapacity"),
        (400, "SpotMaxPriceTooLow"),
        (400, "MaxSpotInstanceCountExceeded"),
        (400, "InsufficientFreeAddressesInSubnet"),
        (400, "VcpuLimitExceeded"),
        (400, "InstanceLimitExceeded"),
        (503, "RequestLimitExceeded"),
        (503, "Unavailable"),
    ],
)
def test_no_capacity_is_worth_another_try(
    cloud: Cloud, provider: Ec2Provider, status: int, code: str
) -> None:
    cloud.answers["RunInstances"] = error_answer(status, code, "We have none")

    with pytest.raises(NoCapacity) as caught:
        provider.launch(plan_for(spot=True))

    said = str(caught.value)
    assert "a spot c5.xlarge in us-east-1a" in said
    assert f"{code}: We have none." in said


@pytest.mark.parametrize(
    ("code", "check"),
    [
        ("InvalidAMIID.NotFound", "SIMHERD_EC2_IMAGE_ID"),
        ("InvalidSubnetID.NotFound", "SIMHERD_EC2_SUBNET_ID"),
        ("InvalidGroup.NotFound", "SIMHERD_EC2_SECURITY_GROUP_IDS"),
        ("Unsupported", "machine type"),
        ("UnauthorizedOperation", "deploy/iam/scheduler-ec2.json"),
        ("AuthFailure", "credentials"),
        ("InvalidParameterValue", "SIMHERD_EC2_"),
    ],
)
def test_what_stays_wrong_is_refused(
    cloud: Cloud, provider: Ec2Provider, code: str, check: str
) -> None:
    cloud.answers["RunInstances"] = error_answer(400, code, "It cannot be")

    with pytest.raises(LaunchRefused) as caught:
        provider.launch(plan_for())

    assert not isinstance(caught.value, NoCapacity)
    assert "an on-demand c5.xlarge" in str(caught.value)
    assert f"{code}: It cannot be. Check " in str(caught.value)
    assert check in str(caught.value).partition("Check ")[2]


def test_an_image_that_is_not_there_is_named(provider: Ec2Provider, settings: Ec2Settings) -> None:
    wrong = Ec2Provider(settings.model_copy(update={"image_id": "ami-00000000000000000"}))

    with pytest.raises(LaunchRefused, match="SIMHERD_EC2_IMAGE_ID"):
        wrong.launch(plan_for())
    assert list(provider.list_machines()) == []


def test_an_instance_that_ended_at_once_is_no_capacity(cloud: Cloud, provider: Ec2Provider) -> None:
    item = (
        "<item><instanceId>i-1</instanceId><instanceState><code>48</code><name>terminated</name>"
        "</instanceState><stateReason><code>x</code><message>Server.InsufficientInstanceCapacity"
        "</message></stateReason></item>"
    )
    body = f"<RunInstancesResponse><instancesSet>{item}</instancesSet></RunInstancesResponse>"
    cloud.answers["RunInstances"] = (200, body)

    with pytest.raises(NoCapacity, match=r"i-1 and is terminated: Server\.Insufficient"):
        provider.launch(plan_for())


@pytest.mark.parametrize("code", ["InvalidParameterValue", "InsufficientInstanceCapacity"])
def test_a_ticket_is_not_told_to_anybody(
    cloud: Cloud, provider: Ec2Provider, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    caplog.set_level(logging.DEBUG)
    plan = plan_for()
    provider.launch(plan_for())
    encoded = next(r["UserData"] for r in cloud.asked if "UserData" in r)
    provider.launch(plan)
    user_data = cloud.asked[-1]["UserData"]
    end(provider, plan.machine_id, {})
    quoted = f"Value {plan.ticket.token} or {user_data} is not taken"
    cloud.answers["RunInstances"] = error_answer(400, code, quoted)

    with pytest.raises(LaunchRefused) as caught:
        provider.launch(plan)

    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "Value *** or *** is not taken" in told
    assert "event=ec2_launched" in caplog.text
    assert all(secret not in told for secret in (plan.ticket.token, user_data, encoded))


def test_a_ticket_that_is_too_long_is_refused(cloud: Cloud, provider: Ec2Provider) -> None:
    with pytest.raises(LaunchRefused, match="EC2 takes 16384") as caught:
        provider.launch(plan_for(ticket=LaunchTicket("https://api", "x" * 20_000)))

    assert "xxx" not in str(caught.value)
    assert "RunInstances" not in cloud.actions()


def test_while_ec2_cannot_be_reached_nothing_is_gone(settings: Ec2Settings) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    provider = Ec2Provider(settings.model_copy(update={"endpoint_url": nobody}))
    machines = {"a": {"instance_id": "i-1", "launched_at": 0.0}, "b": {}}

    assert set(provider.observe(machines).values()) == {MachineState.UNKNOWN}
    assert not provider.terminate("a", machines["a"], force=True)
    assert list(provider.list_machines()) == []
    with pytest.raises(NoCapacity, match="try again"):
        provider.launch(plan_for())


def test_while_ec2_refuses_to_answer_nothing_is_gone(cloud: Cloud, provider: Ec2Provider) -> None:
    plan = plan_for()
    handle = provider.launch(plan)
    cloud.answers["DescribeInstances"] = error_answer(403, "UnauthorizedOperation", "No")

    assert provider.observe({plan.machine_id: handle}) == {plan.machine_id: MachineState.UNKNOWN}
    assert not provider.terminate(plan.machine_id, handle, force=False)


def test_without_credentials_a_launch_is_refused(
    provider: Ec2Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(LaunchRefused, match="credentials") as caught:
        provider.launch(plan_for())
    assert not isinstance(caught.value, NoCapacity)


def test_the_policy_allows_what_is_asked_and_no_more(cloud: Cloud, provider: Ec2Provider) -> None:
    plan = plan_for(spot=True)
    handle = provider.launch(plan)
    provider.observe({plan.machine_id: handle})
    end(provider, plan.machine_id, handle)

    statements = json.loads(POLICY.read_text())["Statement"]
    allowed = {action for s in statements for action in _as_list(s["Action"])}
    # What RunInstances does on the way: it marks, and hands on the machines' role.
    implied = {"ec2:CreateTags", "iam:PassRole"}
    assert allowed == implied | {f"ec2:{action}" for action in cloud.actions()}


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
