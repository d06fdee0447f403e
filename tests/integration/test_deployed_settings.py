"""What a deployment's settings are read from, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from scheduler.config import Settings
from scheduler.domain.limits import LEAST_SIGNING_KEY
from scheduler.objects.s3 import S3Store

if TYPE_CHECKING:
    from pathlib import Path

POSTGRES = "postgresql+psycopg://simherd@db/simherd"


@pytest.mark.fault("B49")
@pytest.mark.parametrize(
    ("url", "key", "fine"),
    [
        (POSTGRES, "k" * LEAST_SIGNING_KEY, True),
        (POSTGRES, "k" * (LEAST_SIGNING_KEY - 1), False),
        (POSTGRES, "", False),
        ("sqlite://", "k", True),
        ("sqlite://", "", False),
    ],
)
def test_a_deployment_needs_a_long_signing_key(url: str, key: str, fine: bool) -> None:
    given: dict[str, Any] = {
        "database_url": url,
        "redis_url": "",
        "broker_url": "",
        "signing_key": key,
    }
    if fine:
        Settings(**given)
        return
    with pytest.raises(ValidationError, match=f"{len(key)} characters.*openssl rand"):
        Settings(**given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"SIMHERD_PROVIDERS": "local,moon"}, "SIMHERD_PROVIDERS: 'moon' is not a provider. There"),
        ({"SIMHERD_PROVIDERS": "ec2"}, "SIMHERD_PROVIDERS: it names ec2, so SIMHERD_EC2_IMAGE_ID"),
        ({"SIMHERD_BACKEND": "process"}, "SIMHERD_BACKEND: 'process' does not isolate simulations"),
        (
            {"SIMHERD_BACKEND": "process", "SIMHERD_INSECURE_PROCESS_BACKEND": "no"},
            "or set SIMHERD_INSECURE_PROCESS_BACKEND=true",
        ),
    ],
)
def test_a_process_does_not_start_with_what_is_not_safe(
    given: dict[str, str], sentence: str
) -> None:
    needed = {f"SIMHERD_{name}_URL": "redis://x" for name in ("REDIS", "BROKER")}
    needed["SIMHERD_DATABASE_URL"] = POSTGRES
    done = subprocess.run(
        [sys.executable, "-m", "scheduler", "recorder"],
        env={**needed, "SIMHERD_SIGNING_KEY": "k" * LEAST_SIGNING_KEY, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nothing_is_on_that_an_operator_has_not_switched_on() -> None:
    given: dict[str, Any] = {"database_url": "sqlite://", "redis_url": "", "broker_url": ""}
    settings = Settings(**given, signing_key="k")
    assert settings.enabled_providers == ()
    assert settings.backend == "docker"
    assert settings.reserved_names == {"local", "default"}
    more = Settings(
        **given, signing_key="k", providers=" external, local,", reserved_group_names=""
    )
    assert more.enabled_providers == ("local", "external")
    assert more.reserved_names == frozenset()
    insecure = Settings(**given, signing_key="k", backend="process", insecure_process_backend=True)
    assert insecure.backend == "process"


def test_settings_come_from_files_unless_they_are_in_the_environment(tmp_path: Path) -> None:
    for name, text in (
        ("simherd_database_url", POSTGRES),
        ("simherd_redis_url", "redis://from-file"),
        ("simherd_broker_url", "redis://from-file"),
        ("simherd_signing_key", "short"),
    ):
        (tmp_path / name).write_text(f"{text}\n")
    done = subprocess.run(
        [sys.executable, "-m", "scheduler", "recorder"],
        env={"SIMHERD_SECRETS_DIR": str(tmp_path), "SIMHERD_REDIS_URL": "redis://elsewhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "SIMHERD_SIGNING_KEY" in done.stderr
    assert "it has 5 characters" in done.stderr
    # Nothing but what is wrong: the files were found.
    assert len(done.stderr.splitlines()) == 1


def test_users_are_led_to_the_storage_where_they_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    store = S3Store("bucket", "us-east-1", "http://s3:8333", "https://storage.example.org")
    assert store.sign("u", "f", "download", 60).startswith("http://s3:8333/bucket/")
    public = store.sign("u", "f", "download", 60, public=True)
    assert public.startswith("https://storage.example.org/bucket/")


def test_boto3_is_not_imported_before_it_is_used() -> None:
    code = (
        "import sys\n"
        "from scheduler.config import Ec2Settings\n"
        "from scheduler.providers.ec2 import Ec2Provider\n"
        "Ec2Provider(Ec2Settings(image_id='ami-1', subnet_id='subnet-1'))\n"
        "sys.exit('boto3' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
