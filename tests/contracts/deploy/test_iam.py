"""The IAM policies allow what the code asks of AWS, and nothing else."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import xform_name

from tests.support.stack import DEPLOY, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = DEPLOY.parent
IAM = DEPLOY / "iam"

#: Every file that speaks with AWS: the service, and the policies of who runs it.
_SPEAKS = {
    "scheduler/providers/ec2.py": ("ec2", {"scheduler-ec2.json"}),
    "scheduler/objects/s3.py": ("s3", {"scheduler-storage.json"}),
    "deploy/systemd/settings.py": ("secretsmanager", {"scheduler-secrets.json", "redis.json"}),
}
#: What IAM calls differently from the API, or wants besides. Of others the name is the same.
_WANTS = {
    # Without the right to list, what is not there is refused instead of missed.
    "s3:HeadObject": {"s3:GetObject", "s3:ListBucket"},
    "s3:GetObject": {"s3:GetObject", "s3:ListBucket"},
    "s3:ListObjectsV2": {"s3:ListBucket"},
    "s3:ListMultipartUploads": {"s3:ListBucketMultipartUploads"},
    "s3:CreateMultipartUpload": {"s3:PutObject"},
    "s3:UploadPart": {"s3:PutObject"},
    "s3:CompleteMultipartUpload": {"s3:PutObject"},
    "s3:DeleteObjects": {"s3:DeleteObject"},
    # Of boto3's own: it asks for the size, and copies at once or in parts.
    "s3:copy": {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"},
    # With tags, and with a profile where the operator sets one.
    "ec2:RunInstances": {"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"},
}
#: For storages of an operator's own. On AWS the stack makes the bucket.
_NOT_ON_AWS = {"s3:CreateBucket"}


def words(path: Path) -> Iterator[str]:
    """All names of attributes and all texts in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def calls(path: Path, service: str) -> set[str]:
    """The operations of a service that a file names, as attribute or text: `s3:HeadObject`."""
    make: Any = boto3.client  # Any: each service has its own type
    client = make(service, region_name=REGION)
    names = {xform_name(o): o for o in client.meta.service_model.operation_names}
    if service == "s3":
        names["copy"] = "copy"
    return {f"{service}:{names[word]}" for word in words(path) if word in names}


def statements(policy: str) -> list[dict[str, Any]]:
    document = json.loads((IAM / policy).read_text(encoding="utf-8"))
    assert document["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = document["Statement"]
    return found


def allowed(policy: str) -> set[str]:
    found: set[str] = set()
    for statement in statements(policy):
        assert statement["Effect"] == "Allow"
        actions = statement["Action"]
        found |= {actions} if isinstance(actions, str) else set(actions)
    return found


def test_the_table_names_every_file_that_speaks_with_aws() -> None:
    folders = ("simherd", "scheduler", "executor", "deploy")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    speaks = {
        str(path.relative_to(ROOT))
        for path in files
        if any("boto3" in (name or "") for name in imported(path))
    }
    assert speaks == set(_SPEAKS)


def imported(path: Path) -> Iterator[str | None]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("file", _SPEAKS)
def test_who_speaks_with_aws_may_do_that_and_no_more(file: str) -> None:
    service, policies = _SPEAKS[file]
    asked = calls(ROOT / file, service) - _NOT_ON_AWS
    assert asked
    wanted: set[str] = set().union(*(_WANTS.get(call, {call}) for call in asked))

    for policy in policies:
        assert allowed(policy) == wanted, policy


def test_a_new_call_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "s3.py"
    file.write_text("client.restore_object(Bucket='b')\nclient.get_paginator('list_buckets')\n")

    assert calls(file, "s3") == {"s3:RestoreObject", "s3:ListBuckets"}


@pytest.mark.parametrize("policy", sorted(path.name for path in IAM.glob("*.json")))
def test_a_policy_gives_only_what_it_names(policy: str) -> None:
    for statement in statements(policy):
        if statement["Effect"] == "Allow":
            assert "*" not in statement["Action"]
            # Only describing cannot be kept to some things.
            if statement.get("Resource") == "*":
                assert all(a.startswith("ec2:Describe") for a in statement["Action"])


def test_machines_may_do_nothing() -> None:
    [statement] = statements("machine.json")
    assert (statement["Effect"], statement["Action"], statement["Resource"]) == ("Deny", "*", "*")


def test_objects_of_others_are_out_of_reach() -> None:
    [objects, bucket] = statements("scheduler-storage.json")
    # The start of every key: scheduler/objects/s3.py.
    assert objects["Resource"] == "arn:aws:s3:::BUCKET/t/*"
    assert bucket["Resource"] == "arn:aws:s3:::BUCKET"
