"""The stack in an AWS of the tests' own: the scheduler gets by with what it is told."""

from __future__ import annotations

import ast
import base64
import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from scheduler.catalogue.tables import load
from scheduler.config import Settings
from scheduler.providers.ec2 import Ec2Provider
from tests.support.ec2 import CREDENTIALS, plan_for
from tests.support.stack import DEPLOY, DOMAIN, NAME, REGION, Stack, made_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: moto answers slowly.
pytestmark = pytest.mark.slow

ACCOUNT = "123456789012"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with made_stack() as made:
        yield made


def files(user_data: str) -> dict[str, dict[str, Any]]:
    """What cloud-init writes."""
    text = base64.b64decode(user_data).decode()
    assert text.startswith("#cloud-config\n")
    return {file["path"]: file for file in yaml.safe_load(text)["write_files"]}


def completed(stack: Stack, folder: Path, files: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The files after `simherd-settings.service` has run on a host."""
    for path, file in files.items():
        content = file["content"]
        if file.get("encoding") == "b64":
            content = base64.b64decode(content).decode()
        (folder / path.rpartition("/")[2]).write_text(content)
    done = subprocess.run(
        [sys.executable, "-I", DEPLOY / "systemd" / "settings.py", folder],
        env={**os.environ, **CREDENTIALS, "AWS_ENDPOINT_URL": stack.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = [path.with_suffix("") for path in folder.glob("*.in")]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in written)
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def scheduler(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the scheduler on its host."""
    templates = stack.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=stack.ids["SchedulerTemplate"]
    )
    launched = templates["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    told = completed(stack, tmp_path, files(launched["UserData"]))
    for line in told["scheduler.env"].splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    return Settings()


def test_the_scheduler_s_settings_are_the_stack_s(
    stack: Stack, scheduler: Settings, tmp_path: Path
) -> None:
    assert scheduler.public_url == f"https://{DOMAIN}" == stack.outputs["ApiUrl"]
    [database] = stack.client("rds").describe_db_instances()["DBInstances"]
    address = database["Endpoint"]["Address"]
    assert scheduler.database_url.get_secret_value() == (
        f"postgresql+psycopg://simherd:text-of-DatabaseSecret-that-is-long-enough@{address}:5432/simherd"
        "?sslmode=require"
    )
    redis = f"redis://:text-of-RedisSecret-that-is-long-enough@redis.{NAME}.internal:6379"
    assert scheduler.redis_url.get_secret_value() == f"{redis}/0"
    assert scheduler.broker_url.get_secret_value() == f"{redis}/1"
    assert scheduler.signing_key.get_secret_value() == "text-of-SigningSecret-that-is-long-enough"
    assert scheduler.s3_bucket == stack.ids["Bucket"] == stack.outputs["BucketName"]
    assert scheduler.s3_region == REGION
    assert (scheduler.host, scheduler.port) == ("0.0.0.0", 8000)
    # What the operator gave, to the letter.
    assert scheduler.machine_types_file is not None
    table = tmp_path / scheduler.machine_types_file.name
    assert table.read_text() == stack.given["MachineTypes"]
    assert dict(load(table).providers) == {"AWS": ("ec2",)}
    assert scheduler.enabled_providers == ("ec2",)
    # The name of Redis leads to its host.
    [host] = stack.client("ec2").describe_instances(InstanceIds=[stack.ids["Redis"]])[
        "Reservations"
    ][0]["Instances"]
    records = stack.client("route53").list_resource_record_sets(
        HostedZoneId=stack.ids["RedisZone"]
    )["ResourceRecordSets"]
    leads = {r["Name"].rstrip("."): r["ResourceRecords"] for r in records if r["Type"] == "A"}
    assert leads == {f"redis.{NAME}.internal": [{"Value": host["PrivateIpAddress"]}]}


def test_the_scheduler_launches_machines_with_them(
    stack: Stack, scheduler: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    ec2 = stack.client("ec2")
    provider = Ec2Provider(scheduler.ec2.model_copy(update={"endpoint_url": stack.url}))

    handle = provider.launch(plan_for(machine_type="c7i.xlarge"))

    [made] = ec2.describe_instances(InstanceIds=[handle["instance_id"]])["Reservations"][0][
        "Instances"
    ]
    assert made["ImageId"] == stack.given["ImageId"]
    assert made["SubnetId"] == stack.outputs["MachineSubnetId"]
    groups = [group["GroupId"] for group in made["SecurityGroups"]]
    assert groups == [stack.outputs["MachineSecurityGroupId"]]
    assert {"Key": "simherd:deployment", "Value": NAME} in made["Tags"]
    assert "IamInstanceProfile" not in made
    # It says the same as the template for machines that are started by hand.
    [by_hand] = ec2.describe_launch_template_versions(
        LaunchTemplateId=stack.outputs["MachineTemplateId"]
    )["LaunchTemplateVersions"]
    template = by_hand["LaunchTemplateData"]
    [network] = template["NetworkInterfaces"]
    assert (network["SubnetId"], network["Groups"]) == (made["SubnetId"], groups)
    assert template["ImageId"] == made["ImageId"]
    options = made["MetadataOptions"]
    for name, value in template["MetadataOptions"].items():
        assert options[name] == value


def test_redis_is_told_its_password_by_a_file_for_root_alone(stack: Stack, tmp_path: Path) -> None:
    asked = stack.client("ec2").describe_instance_attribute(
        InstanceId=stack.ids["Redis"], Attribute="userData"
    )
    lines = completed(stack, tmp_path, files(asked["UserData"]["Value"]))["redis.conf"].splitlines()

    assert "requirepass text-of-RedisSecret-that-is-long-enough" in lines
    assert {"port 6379", "appendonly yes", "maxmemory-policy noeviction"} <= set(lines)


def test_a_secret_that_cannot_be_read_is_named(stack: Stack, tmp_path: Path) -> None:
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:other"
    (tmp_path / "scheduler.env.in").write_text(f"SIMHERD_SIGNING_KEY=<secret:{arn}>\n")
    done = subprocess.run(
        [sys.executable, "-I", DEPLOY / "systemd" / "settings.py", tmp_path],
        env={**os.environ, **CREDENTIALS, "AWS_ENDPOINT_URL": stack.url},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "scheduler.env.in" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "scheduler.env").exists()


@pytest.mark.parametrize(
    ("role", "name", "file"),
    [
        ("SchedulerRole", "ec2", "scheduler-ec2.json"),
        ("SchedulerRole", "storage", "scheduler-storage.json"),
        ("SchedulerRole", "secrets", "scheduler-secrets.json"),
        ("RedisRole", "redis", "redis.json"),
    ],
)
def test_roles_are_those_of_the_files(stack: Stack, role: str, name: str, file: str) -> None:
    iam = stack.client("iam")
    has = iam.get_role_policy(RoleName=stack.ids[role], PolicyName=name)["PolicyDocument"]
    trusted = iam.get_role(RoleName=stack.ids[role])["Role"]["AssumeRolePolicyDocument"]

    # moto hands out the policies of a template as Python writes them.
    assert ast.literal_eval(str(has)) == policy(stack, file)
    assert trusted == policy(stack, "trust-ec2.json")


def policy(stack: Stack, file: str) -> dict[str, Any]:
    """A file of `deploy/iam`, with what docs/ec2.md says is to be replaced."""
    text = (DEPLOY / "iam" / file).read_text(encoding="utf-8")
    for place, value in {
        ":REGION:": f":{REGION}:",
        ":ACCOUNT:": f":{ACCOUNT}:",
        "image/IMAGE": f"image/{stack.given['ImageId']}",
        "subnet/SUBNET": f"subnet/{stack.ids['MachineSubnet']}",
        "security-group/SECURITY_GROUP": f"security-group/{stack.ids['MachineSecurityGroup']}",
        ":::BUCKET": f":::{stack.ids['Bucket']}",
        "DATABASE_SECRET": stack.given["DatabaseSecret"],
        "REDIS_SECRET": stack.given["RedisSecret"],
        "SIGNING_SECRET": stack.given["SigningSecret"],
        '"simherd"': f'"{NAME}"',
    }.items():
        text = text.replace(place, value)
    found: dict[str, Any] = json.loads(text)
    # The stack's machines have no role that could be handed on.
    kept = [s for s in found["Statement"] if s.get("Sid") != "HandOnTheMachinesRole"]
    return {**found, "Statement": kept}
