"""The CloudFormation template as it is written: who reaches whom, and what keeps data safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cfnlint.api import ManualArgs, lint_file

from tests.support.stack import DEPLOY, TEMPLATE, template

if TYPE_CHECKING:
    from collections.abc import Iterator

ANYWHERE = "0.0.0.0/0"
#: What a group has that lets nothing out: with no rule at all AWS would let everything out.
NOWHERE = "127.0.0.1/32"


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = template()["Resources"]
    return found


def of_type(resources: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {n: r.get("Properties", {}) for n, r in resources.items() if r["Type"] == kind}


def test_cloudformation_would_take_it() -> None:
    assert lint_file(TEMPLATE, ManualArgs(regions=["eu-central-1", "us-east-1"])) == []


def _name(reference: dict[str, str]) -> str:
    return reference["Ref"].removesuffix("SecurityGroup")


def _into(resources: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """From whom, to whom, at which port: as those who are reached have it."""
    for name, group in of_type(resources, "AWS::EC2::SecurityGroup").items():
        for rule in group.get("SecurityGroupIngress", []):
            assert (rule["IpProtocol"], rule["FromPort"]) == ("tcp", rule["ToPort"])
            yield str(rule["CidrIp"]), name.removesuffix("SecurityGroup"), rule["FromPort"]
    for rule in of_type(resources, "AWS::EC2::SecurityGroupIngress").values():
        assert (rule["IpProtocol"], rule["FromPort"]) == ("tcp", rule["ToPort"])
        yield _name(rule["SourceSecurityGroupId"]), _name(rule["GroupId"]), rule["FromPort"]


def _out_of(resources: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """The same, as those who reach have it."""
    for name, group in of_type(resources, "AWS::EC2::SecurityGroup").items():
        assert group["SecurityGroupEgress"], name
        for rule in group["SecurityGroupEgress"]:
            if rule["CidrIp"] != NOWHERE:
                assert (rule["IpProtocol"], rule["FromPort"]) == ("tcp", rule["ToPort"])
                yield name.removesuffix("SecurityGroup"), rule["CidrIp"], rule["FromPort"]
    for rule in of_type(resources, "AWS::EC2::SecurityGroupEgress").values():
        assert (rule["IpProtocol"], rule["FromPort"]) == ("tcp", rule["ToPort"])
        yield _name(rule["GroupId"]), _name(rule["DestinationSecurityGroupId"]), rule["FromPort"]


def test_each_reaches_only_what_it_must(resources: dict[str, Any]) -> None:
    inside = {
        ("LoadBalancer", "Scheduler", 8000),
        ("Scheduler", "Database", 5432),
        ("Scheduler", "Redis", 6379),
        ("Machine", "Redis", 6379),
        ("Operator", "Scheduler", 22),
        ("Operator", "Redis", 22),
    }
    # Who may reach the API, and the address that machines have outside.
    callers = [{"Ref": "ApiCidr"}, {"Fn::Sub": "${NatAddress}/32"}]

    assert set(_into(resources)) == inside | {(str(c), "LoadBalancer", 443) for c in callers}
    assert set(_out_of(resources)) == inside | {
        (name, ANYWHERE, 443) for name in ("Scheduler", "Redis", "Machine")
    }
    assert template()["Parameters"]["ApiCidr"]["Default"] == ANYWHERE


def test_only_the_load_balancer_and_the_way_out_are_in_public_subnets(
    resources: dict[str, Any],
) -> None:
    open_routes = {
        association["SubnetId"]["Ref"]
        for association in of_type(resources, "AWS::EC2::SubnetRouteTableAssociation").values()
        if association["RouteTableId"] == {"Ref": "PublicRoutes"}
    }
    assert open_routes == {"PublicSubnetA", "PublicSubnetB"}
    users = {
        name
        for name, resource in resources.items()
        if resource["Type"] != "AWS::EC2::SubnetRouteTableAssociation"
        and any(subnet in str(resource.get("Properties")) for subnet in open_routes)
    }
    assert users == {"LoadBalancer", "NatGateway"}
    assert resources["LoadBalancer"]["Properties"]["Scheme"] == "internet-facing"
    [endpoint] = of_type(resources, "AWS::EC2::VPCEndpoint").values()
    assert endpoint["RouteTableIds"] == [{"Ref": "PrivateRoutes"}]


def test_what_must_not_be_lost_is_kept(resources: dict[str, Any]) -> None:
    assert {
        name: resource["DeletionPolicy"]
        for name, resource in resources.items()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    } == {
        "Bucket": "Retain",
        "Database": "Snapshot",
    }
    database = resources["Database"]["Properties"]
    assert database["DeletionProtection"] is True
    # Where it begins with a snapshot, it is as that one is: of this same template.
    assert database["StorageEncrypted"] == {
        "Fn::If": ["NewDatabase", True, {"Ref": "AWS::NoValue"}]
    }
    assert database["PubliclyAccessible"] is False
    assert database["BackupRetentionPeriod"] >= 7
    assert resources["DatabaseSettings"]["Properties"]["Parameters"] == {"rds.force_ssl": "1"}


def test_the_bucket_is_private_encrypted_and_tidies_up(resources: dict[str, Any]) -> None:
    bucket = resources["Bucket"]["Properties"]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    [encryption] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    given_up = rules["uploads-that-were-given-up"]
    assert given_up["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    # Nothing that is current ever ends by itself.
    assert not any("Expiration" in key for rule in rules.values() for key in rule if key[0] == "E")
    [statement] = resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == (
        "Deny",
        "*",
        "s3:*",
    )
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_hosts_hold_what_the_files_say(resources: dict[str, Any]) -> None:
    redis = resources["Redis"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    launched = resources["SchedulerTemplate"]["Properties"]["LaunchTemplateData"]
    scheduler, _ = launched["UserData"]["Fn::Base64"]["Fn::Sub"]

    # Change the file, then copy it into the template.
    assert redis == (DEPLOY / "cloud-init" / "redis.yaml").read_text(encoding="utf-8")
    assert scheduler == (DEPLOY / "cloud-init" / "scheduler.yaml").read_text(encoding="utf-8")


def test_every_host_hides_its_credentials_and_encrypts_its_disk(resources: dict[str, Any]) -> None:
    hosts = [
        resources["Redis"]["Properties"],
        *(t["LaunchTemplateData"] for t in of_type(resources, "AWS::EC2::LaunchTemplate").values()),
    ]
    assert len(hosts) == 3
    for host in hosts:
        assert host["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        for volume in host["BlockDeviceMappings"]:
            assert volume["Ebs"]["Encrypted"] is True
    # Machines run the code of others: they have no role at all.
    assert "IamInstanceProfile" not in hosts[-1]
