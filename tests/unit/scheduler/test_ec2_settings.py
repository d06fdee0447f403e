"""When there are EC2 machines, and what is said where a setting is missing."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from scheduler.config import Ec2Settings, Settings


def settings() -> Settings:
    return Settings(database_url="sqlite://", redis_url="", broker_url="", signing_key="k")


def test_without_an_image_it_cannot_be_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMHERD_PROVIDERS", "ec2")
    with pytest.raises(ValidationError, match="SIMHERD_EC2_IMAGE_ID"):
        settings()

    monkeypatch.setenv("SIMHERD_EC2_IMAGE_ID", "ami-1")
    monkeypatch.setenv("SIMHERD_EC2_SUBNET_ID", "subnet-1")
    assert settings().enabled_providers == ("ec2",)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REGION": "eu-west-1",
        "ENDPOINT_URL": "http://127.0.0.1:1",
        "IMAGE_ID": "ami-1",
        "SUBNET_ID": "subnet-1",
        "SECURITY_GROUP_IDS": "sg-1, sg-2,",
        "INSTANCE_PROFILE": "machine",
        "DEPLOYMENT": "east",
        "MACHINE_TYPES": '{"c2-standard-4": "c5.xlarge"}',
    }.items():
        monkeypatch.setenv(f"SIMHERD_EC2_{name}", value)

    settings = Ec2Settings()

    assert settings.security_groups == ["sg-1", "sg-2"]
    assert settings.model_dump(exclude={"security_group_ids"}) == {
        "region": "eu-west-1",
        "endpoint_url": "http://127.0.0.1:1",
        "image_id": "ami-1",
        "subnet_id": "subnet-1",
        "instance_profile": "machine",
        "deployment": "east",
        "machine_types": {"c2-standard-4": "c5.xlarge"},
    }


def test_the_subnet_is_needed() -> None:
    with pytest.raises(ValidationError, match="SIMHERD_EC2_SUBNET_ID"):
        Ec2Settings(image_id="ami-1")
