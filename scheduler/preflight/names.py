"""Settings that are names in other programs: whether they can be any."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scheduler.preflight.finding import EC2_PREFIX, PREFIX, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.config import Settings

#: As boto3 takes it; some S3 servers allow more than AWS does.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
#: A label of a host's name, for the region becomes one (RFC 1123).
_REGION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def of_names(settings: Settings) -> Iterator[Finding]:
    """Names that cannot be any where they are used."""
    ec2 = settings.ec2
    used = "letters, digits, '.', '_' and '-'"
    label = "letters, digits and '-'"
    checks = [
        ("S3_BUCKET", settings.s3_bucket, _BUCKET, f"the name of a bucket has {used}"),
        ("S3_REGION", settings.s3_region, _REGION, f"a region has {label}, as us-east-1"),
        ("EC2_REGION", ec2.region, _REGION, f"a region has {label}, as us-east-1"),
        ("SMTP_FROM", settings.smtp_from, re.compile(r"[^\r\n]*\S@\S+"), "it has no @HOST"),
    ]
    for name, value, form, says in checks:
        if value and not form.fullmatch(value):
            yield Finding(f"{PREFIX}{name}", f"{value!r} cannot be used: {says}", True)
    words = {
        f"{PREFIX}DOCKER_IMAGE": settings.docker_image,
        f"{PREFIX}DOCKER_NETWORK": settings.docker_network,
        f"{PREFIX}DOCKER_DEPLOYMENT": settings.docker_deployment,
        f"{EC2_PREFIX}IMAGE_ID": ec2.image_id,
        f"{EC2_PREFIX}SUBNET_ID": ec2.subnet_id,
        f"{EC2_PREFIX}INSTANCE_PROFILE": ec2.instance_profile,
        f"{PREFIX}METRICS_HOST": settings.metrics_host,
        f"{PREFIX}HOST": settings.host,
    }
    for name, word in words.items():
        if word and re.search(r"\s", word):
            yield Finding(name, f"{word!r} has a space in it. Write one name", True)
