"""Machines on EC2, against a real server over HTTP."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from scheduler.providers.base import LaunchTicket, MachinePlan, MachineState, ProviderMachine
from scheduler.providers.ec2 import Ec2Provider
from tests.support.ec2 import CREDENTIALS, Cloud, end, plan_for, settings_for

if TYPE_CHECKING:
    from scheduler.config import Ec2Settings

#: moto answers slowly.
pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("spot", [True, False])
def test_an_instance_is_as_planned(
    cloud: Cloud, provider: Ec2Provider, settings: Ec2Settings, spot: bool
) -> None:
    plan = plan_for(spot=spot)
    before = time.time()

    handle = provider.launch(plan)

    assert before <= handle["launched_at"] <= time.time()
    made = cloud.instance(handle["instance_id"])
    tags = {
        "simherd:deployment": settings.deployment,
        "simherd:machine": plan.machine_id,
        "simherd:group": "group-1",
        "Name": "crowd-1",
    }
    assert _tags(made) == tags
    assert made["InstanceType"] == "c5.xlarge"
    assert made["ImageId"] == cloud.image_id
    assert made["SubnetId"] == cloud.subnet_id
    assert {g["GroupId"] for g in made["SecurityGroups"]} == set(cloud.group_ids)
    assert made["IamInstanceProfile"]["Arn"].endswith(f"/{cloud.profile}")
    assert made.get("InstanceLifecycle") == ("spot" if spot else None)
    options = made["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
    # moto's defaults are as strict; EC2's are the account's and the image's.
    asked = {k: v for k, v in cloud.asked[-1].items() if k.startswith("MetadataOptions.")}
    assert asked == {
        "MetadataOptions.HttpEndpoint": "enabled",
        "MetadataOptions.HttpTokens": "required",
        "MetadataOptions.HttpPutResponseHopLimit": "1",
        "MetadataOptions.HttpProtocolIpv6": "disabled",
    }
    shutdown = cloud.client.describe_instance_attribute(
        InstanceId=handle["instance_id"], Attribute="instanceInitiatedShutdownBehavior"
    )
    assert shutdown["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    # One disk, and it is the root one: it has the image's device name.
    [disk] = made["BlockDeviceMappings"]
    assert (disk["DeviceName"], disk["Ebs"]["DeleteOnTermination"]) == ("/dev/xvda", True)
    [volume] = cloud.client.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (77, "gp3", True)
    assert _tags(volume) == tags


def test_a_spot_instance_ends_for_good(cloud: Cloud, provider: Ec2Provider) -> None:
    provider.launch(plan_for(spot=True))

    options = "InstanceMarketOptions.SpotOptions"
    asked = cloud.asked[-1]
    assert asked[f"{options}.SpotInstanceType"] == "one-time"
    assert asked[f"{options}.InstanceInterruptionBehavior"] == "terminate"


def test_an_instance_is_told_its_ticket(cloud: Cloud, provider: Ec2Provider) -> None:
    plan = plan_for()
    handle = provider.launch(plan)

    told = cloud.client.describe_instance_attribute(
        InstanceId=handle["instance_id"], Attribute="userData"
    )
    text = base64.b64decode(told["UserData"]["Value"]).decode()
    assert text.startswith("#cloud-config\n")
    files = {f["path"]: f for f in yaml.safe_load(text)["write_files"]}
    ticket = files["/etc/simherd/ticket.json"]
    assert ticket["permissions"] == "0600"
    assert json.loads(ticket["content"]) == {
        "api_url": "https://api.example.org",
        "token": plan.ticket.token,
    }


def test_a_type_that_is_not_in_the_table_is_ec2s_own(cloud: Cloud, provider: Ec2Provider) -> None:
    handle = provider.launch(plan_for(machine_type="m5.large"))

    assert cloud.instance(handle["instance_id"])["InstanceType"] == "m5.large"


def test_a_disk_is_never_smaller_than_its_image(cloud: Cloud, provider: Ec2Provider) -> None:
    provider.launch(plan_for(disk_size_gb=1))

    [image] = cloud.client.describe_images(ImageIds=[cloud.image_id])["Images"]
    size = image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]
    assert cloud.asked[-1]["BlockDeviceMapping.1.Ebs.VolumeSize"] == str(size)


def test_launching_twice_launches_one(
    cloud: Cloud, provider: Ec2Provider, settings: Ec2Settings
) -> None:
    plan = plan_for()
    first = provider.launch(plan)

    # As after a crash: another process, another ticket.
    again = Ec2Provider(settings).launch(
        replace(plan, ticket=LaunchTicket("https://else", "other"))
    )

    assert again["instance_id"] == first["instance_id"]
    # EC2 tells launch times in whole seconds.
    assert abs(again["launched_at"] - first["launched_at"]) < 5
    assert list(cloud.tagged("simherd:machine", plan.machine_id)) == [first["instance_id"]]


def test_another_deployments_instance_is_not_taken(
    provider: Ec2Provider, settings: Ec2Settings
) -> None:
    plan = plan_for()
    theirs = Ec2Provider(settings.model_copy(update={"deployment": "theirs"})).launch(plan)

    assert provider.launch(plan)["instance_id"] != theirs["instance_id"]


def test_a_machine_that_ended_is_launched_anew(cloud: Cloud, provider: Ec2Provider) -> None:
    plan = plan_for()
    first = provider.launch(plan)
    end(provider, plan.machine_id, first)

    second = provider.launch(plan)

    assert second["instance_id"] != first["instance_id"]
    assert cloud.instance(second["instance_id"])["State"]["Name"] == "running"


def test_a_request_is_known_again_by_machine_and_ticket(
    cloud: Cloud, provider: Ec2Provider
) -> None:
    plan = plan_for()
    for each in (plan, plan, replace(plan, ticket=LaunchTicket("https://a", "2")), plan_for()):
        end(provider, each.machine_id, provider.launch(each))

    tokens = [r["ClientToken"] for r in cloud.asked if r["Action"] == "RunInstances"]
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 3
    assert all(len(token) <= 64 and plan.ticket.token not in token for token in tokens)


@pytest.mark.parametrize("force", [True, False])
def test_a_terminated_machine_is_gone(cloud: Cloud, provider: Ec2Provider, force: bool) -> None:
    plan = plan_for()
    handle = provider.launch(plan)
    assert provider.observe({plan.machine_id: handle}) == {plan.machine_id: MachineState.RUNNING}

    assert not provider.terminate(plan.machine_id, handle, force=force)
    assert provider.terminate(plan.machine_id, handle, force=force)

    assert cloud.instance(handle["instance_id"])["State"]["Name"] == "terminated"
    assert provider.observe({plan.machine_id: handle}) == {plan.machine_id: MachineState.GONE}
    assert provider.terminate(plan.machine_id, handle, force=force)


def test_a_machine_is_terminated_without_its_handle(cloud: Cloud, provider: Ec2Provider) -> None:
    plan = plan_for()
    provider.launch(plan)
    # Two launches that did not see each other.
    cloud.client.run_instances(
        MinCount=1,
        MaxCount=1,
        ImageId=cloud.image_id,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": cloud.instance(_only(cloud, plan))["Tags"]}
        ],
    )

    end(provider, plan.machine_id, {})

    states = cloud.tagged("simherd:machine", plan.machine_id)
    assert Counter(states.values()) == {"terminated": 2}


@pytest.mark.parametrize(("age_s", "gone"), [(3600, True), (5, False)])
def test_terminating_what_ec2_does_not_know(
    provider: Ec2Provider, age_s: float, gone: bool
) -> None:
    handle = {"instance_id": "i-0123456789abcdef0", "launched_at": time.time() - age_s}

    assert provider.terminate("machine-1", handle, force=False) is gone


@pytest.mark.parametrize(
    ("handle", "state"),
    [
        ({}, MachineState.UNKNOWN),
        ({"instance_id": "i-0123456789abcdef0", "launched_at": 941}, MachineState.UNKNOWN),
        ({"instance_id": "i-0123456789abcdef0", "launched_at": 939}, MachineState.GONE),
        ({"instance_id": "i-0123456789abcdef0"}, MachineState.GONE),
    ],
)
def test_a_machine_that_is_not_seen(
    settings: Ec2Settings, handle: dict[str, Any], state: MachineState
) -> None:
    provider = Ec2Provider(settings, now=lambda: 1000)

    assert provider.observe({"machine-1": handle}) == {"machine-1": state}


def test_a_stopped_machine_is_gone_and_found(cloud: Cloud, provider: Ec2Provider) -> None:
    plan = plan_for()
    handle = provider.launch(plan)
    cloud.client.stop_instances(InstanceIds=[handle["instance_id"]])

    assert provider.observe({plan.machine_id: handle}) == {plan.machine_id: MachineState.GONE}
    assert [f.machine_id for f in provider.list_machines()] == [plan.machine_id]


def test_many_machines_are_few_questions(cloud: Cloud, provider: Ec2Provider) -> None:
    plans = [plan_for(), plan_for()]
    absent = {f"m-{n}": {"instance_id": f"i-{n:017x}", "launched_at": 0} for n in range(248)}
    machines = {
        plans[0].machine_id: provider.launch(plans[0]),
        **absent,
        plans[1].machine_id: provider.launch(plans[1]),
    }
    cloud.asked.clear()

    states = provider.observe(machines)

    assert cloud.actions() == ["DescribeInstances"] * 2
    assert list(states) == list(machines)
    running = [m for m, state in states.items() if state is MachineState.RUNNING]
    assert running == [p.machine_id for p in plans]
    assert Counter(states.values()) == {MachineState.RUNNING: 2, MachineState.GONE: 248}


def test_orphans_are_found_and_others_are_not(
    cloud: Cloud, provider: Ec2Provider, settings: Ec2Settings
) -> None:
    ours, ended = plan_for(), plan_for()
    handle = provider.launch(ours)
    end(provider, ended.machine_id, provider.launch(ended))
    Ec2Provider(settings.model_copy(update={"deployment": "theirs"})).launch(plan_for())
    cloud.client.run_instances(MinCount=1, MaxCount=1, ImageId=cloud.image_id)

    [found] = provider.list_machines()

    launched_at = cloud.instance(handle["instance_id"])["LaunchTime"].timestamp()
    kept = {"instance_id": handle["instance_id"], "launched_at": launched_at}
    assert found == ProviderMachine(ours.machine_id, "group-1", kept)


def test_every_page_of_orphans_is_read(cloud: Cloud, provider: Ec2Provider) -> None:
    cloud.page_size = 1
    plans = [plan_for() for _ in range(3)]
    handles = {p.machine_id: provider.launch(p)["instance_id"] for p in plans}
    cloud.asked.clear()

    found = {f.machine_id: f.handle["instance_id"] for f in provider.list_machines()}

    assert found == handles
    assert cloud.actions() == ["DescribeInstances"] * 3


def _only(cloud: Cloud, plan: MachinePlan) -> str:
    [instance_id] = cloud.tagged("simherd:machine", plan.machine_id)
    return instance_id


def _tags(resource: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in resource["Tags"]}
