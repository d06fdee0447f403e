"""The stack of `deploy/cloudformation`: as it is written, and made in an AWS of the tests' own.

moto makes what it can of a template. What it cannot is left out here, by name, and the tests look
at the text of it instead.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import yaml
from moto.server import ThreadedMotoServer

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = REPOSITORY / "deploy"
TEMPLATE = DEPLOY / "cloudformation" / "simherd.yaml"
REGION = "us-east-1"
NAME = "herd"
DOMAIN = "simherd.example.org"
#: What moto has no support for in a template.
_BEYOND_MOTO = {
    "AWS::EC2::InstanceConnectEndpoint",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::S3::BucketPolicy",
}
_SECRET = "AWS::SecretsManager::Secret"


def _long_form(loader: Any, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.SequenceNode):
        value: Any = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_scalar(node)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


#: YAML with CloudFormation's short forms. A class of its own: what is added to one is its alone.
_Loader: Any = type("_Loader", (yaml.SafeLoader,), {})
_Loader.add_multi_constructor("!", _long_form)


def template() -> dict[str, Any]:
    """The template, short forms written out."""
    text = TEMPLATE.read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, _Loader)
    return loaded


@dataclass
class Stack:
    """A stack that was made."""

    url: str
    #: Name in the template → id.
    ids: dict[str, str]
    outputs: dict[str, str]
    #: What was given for the template's parameters.
    given: dict[str, str]

    def client(self, service: str) -> Any:
        """A client of the AWS in which it is."""
        return _client(self.url, service)


@contextmanager
def made_stack() -> Iterator[Stack]:
    """The stack in a separate AWS."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield _make(f"http://{host}:{port}")
    finally:
        server.stop()


def _make(url: str) -> Stack:
    reduced, given = template(), _arguments(url)
    for name, resource in list(reduced["Resources"].items()):
        if resource["Type"] == _SECRET:
            # It is made here, and is a parameter of the same name for who refers to it.
            made = _client(url, "secretsmanager").create_secret(
                Name=name, SecretString=f"text-of-{name}-that-is-long-enough"
            )
            reduced["Parameters"][name] = {"Type": "String"}
            given[name] = made["ARN"]
        if resource["Type"] in _BEYOND_MOTO | {_SECRET}:
            del reduced["Resources"][name]
    # moto mistakes the group's resource for its name.
    del reduced["Resources"]["Database"]["Properties"]["DBParameterGroupName"]
    cloudformation = _client(url, "cloudformation")
    cloudformation.create_stack(
        StackName=NAME,
        TemplateBody=json.dumps(reduced),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
    )
    rows = cloudformation.list_stack_resources(StackName=NAME)["StackResourceSummaries"]
    [told] = cloudformation.describe_stacks(StackName=NAME)["Stacks"]
    return Stack(
        url,
        {row["LogicalResourceId"]: row["PhysicalResourceId"] for row in rows},
        {row["OutputKey"]: row["OutputValue"] for row in told["Outputs"]},
        given,
    )


def _arguments(url: str) -> dict[str, str]:
    """What an operator gives the template."""
    ec2 = _client(url, "ec2")
    images = ec2.describe_images(Owners=["amazon"])["Images"]
    image = next(i["ImageId"] for i in images if i["RootDeviceName"] == "/dev/xvda")
    ec2.create_key_pair(KeyName="operator")
    certificate = _client(url, "acm").request_certificate(DomainName=DOMAIN)
    return {
        "DomainName": DOMAIN,
        "CertificateArn": certificate["CertificateArn"],
        "ImageId": image,
        "RedisImageId": image,
        "KeyName": "operator",
        "MachineTypes": (DEPLOY / "cloud-init" / "machine_types.toml").read_text("utf-8"),
    }


def _client(url: str, service: str) -> Any:
    # Any: each service has its own type, and only some have stubs.
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
