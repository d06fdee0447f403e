"""Every setting with a value that it cannot have: one line with the setting's name, exit code 2."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI

from scheduler.__main__ import main
from scheduler.api.edge.server import serve
from scheduler.config import Ec2Settings, Settings
from tests.unit.scheduler.test_preflight import GOOD

if TYPE_CHECKING:
    from pathlib import Path

#: Stands in the values that hold a secret, and in no message.
SECRET = "hunter2hunter2"

#: Setting → values that it cannot have, with what the line says besides the setting's name.
WRONG: dict[str, list[tuple[str, str]]] = {
    "DATABASE_URL": [
        (f"postgres://simherd:{SECRET}@db/simherd", "postgresql+psycopg://"),
        (f"postgresql://simherd:{SECRET}@db/simherd", "postgresql+psycopg://"),
        (f"mysql://simherd:{SECRET}@db/simherd", "sqlite:///"),
        (f"postgresql+psycopg://simherd:{SECRET}@db:port/simherd", "port cannot be read"),
        ("sqlite://simherd.db", "three slashes"),
        (SECRET, "it is not a URL"),
    ],
    "DEFAULT_QUOTAS": [
        ("{max", "it is not JSON"),
        ("40", '{"max_instances": 8'),
        ('{"max_instances": "many"}', "not 'many'"),
        ('{"moons": 1}', "'moons'"),
    ],
    "REDIS_URL": [
        (f"http://:{SECRET}@redis", "redis://"),
        (f"redis://:{SECRET}@redis:x", "redis://"),
    ],
    "MACHINES_REDIS_URL": [(f":{SECRET}@redis", "redis://:PASSWORD@HOST")],
    "REDIS_SERVERS": [
        (f'{{"a": "redis://:{SECRET}@a"}}', '{"second": {"url"'),
        (f'{{"a": {{"url": "redis://b", "uri": "redis://:{SECRET}@a"}}}}', "SERVERS.a.uri"),
        (f'{{"a": {{"url": "{SECRET}"}}}}', "SERVERS.a.url"),
        (f'{{"main": {{"url": "redis://:{SECRET}@a"}}}}', "'main' cannot name a server"),
        (f'{{"a": {SECRET}', "it is not JSON"),
    ],
    "BROKER_URL": [(f"amqp://guest:{SECRET}@mq", "redis://"), ("redis://:Xq3vR81b@redis/x", "/0")],
    "MACHINES_API_URL": [(f"ftp://me:{SECRET}@host", "https://HOST")],
    "REGISTER_S": [("0", "greater than 0"), ("inf", "finite")],
    "ELASTIC_IDLE_S": [("1m", "without a unit"), ("nan", "not 'nan'")],
    "PUBLIC_URL": [("simherd.example.org", "https://HOST"), ("http://host:x", "http://host:x")],
    "SIGNING_KEY": [(SECRET, "openssl rand -hex 32")],
    "STORAGE_DIR": [("/dev/null", "not a folder"), ("/proc/x", "cannot be made or written")],
    "S3_ENDPOINT_URL": [(f"me:{SECRET}@s3", "https://HOST")],
    "S3_PUBLIC_URL": [("s3.example.org", "http:// or https://")],
    "STORAGE_PRICE_GB_MONTH": [("-1", "not '-1'"), ("2 cents", "not '2 cents'")],
    "MACHINES_DIR": [("/dev/null", "not a folder")],
    "MACHINE_TYPES_FILE": [("/nowhere.toml", "no file"), ("FILE", "cannot be used")],
    "IMAGES_FILE": [("/nowhere.toml", "no file"), ("FILE", "cannot be used")],
    "INSECURE_PROCESS_BACKEND": [("perhaps", "true or false")],
    "BACKEND": [("podman", "it must be docker or process, not 'podman'"), ("process", "isolate")],
    "SLOTS": [("many", "not 'many'"), ("0", "not '0'")],
    "MAX_MACHINES": [
        ("40", '{"ec2": 40'),
        ('{"ec3": 1}', "'ec3' is not a provider. There are: local, docker, ec2, external"),
        ('{"ec2": -1}', "not '-1'"),
        ("{ec2: 1}", "it is not JSON"),
    ],
    "PROVIDERS": [
        ("loca", "'loca' is not a provider"),
        ("ec2", "SIMHERD_EC2_IMAGE_ID must be set"),
    ],
    "RESERVED_GROUP_NAMES": [("A B", "'A B' cannot be"), ("local;default", "commas")],
    "PORT": [("70000", "not a port"), ("http", "not 'http'")],
    "TRUSTED_PROXIES": [("proxy", "'proxy'"), ("10.0.0.1/8", "host bits")],
    "REQUEST_HEAD_S": [("0", "not '0'"), ("10s", "without a unit")],
    "REQUEST_BODY_S": [("5000", "not '5000'")],
    "KEEP_ALIVE_S": [("1.5", "not '1.5'")],
    "USER_REQUESTS_PER_S": [("0", "not '0'"), ("inf", "finite")],
    "FAILED_KEYS_PER_MIN": [("few", "not 'few'")],
    "METRICS_PORT": [("65536", "not '65536'")],
    "SWEEP_S": [("10s", "without a unit"), ("inf", "finite")],
    "GRACE_S": [("1", "heartbeats"), ("-1", "not '-1'")],
    "ICE_SERVERS": [(f"turn:me:{SECRET}@a", "turn:HOST[:PORT]")],
    "UNSAFE_SETTINGS": [("ignore", "it must be warn or refuse, not 'ignore'")],
    "LOG_LEVEL": [("LOUD", "'LOUD' is not a level")],
    "LOG_FORMAT": [("xml", "not 'xml'")],
    "OTLP_ENDPOINT": [(f"grpc://me:{SECRET}@otel", "http:// or https://")],
    "OUTBOUND_ALLOW": [("intranet", "'intranet'")],
    "SMTP_URL": [(f"mail:{SECRET}@host", "smtps://USER:PASSWORD@HOST:465")],
    "SMTP_STARTTLS": [("perhaps", "true or false")],
    "BOOTSTRAP_MACHINES": [("-1", "not '-1'")],
    "S3_BUCKET": [("a b", "'a b' cannot be used"), ("s3://bucket", "cannot be used")],
    "S3_REGION": [("us east", "'us east' cannot be used")],
    "EC2_REGION": [("https://ec2", "cannot be used")],
    "SMTP_FROM": [("Simherd", "'Simherd' cannot be used: it has no @HOST")],
    **{
        name: [("a b", "'a b' has a space in it")]
        for name in (
            *("DOCKER_IMAGE", "DOCKER_NETWORK", "DOCKER_DEPLOYMENT", "HOST", "METRICS_HOST"),
            *("EC2_SUBNET_ID", "EC2_INSTANCE_PROFILE"),
        )
    },
    "EC2_IMAGE_ID": [("ami-1", "SIMHERD_EC2_SUBNET_ID must be too")],
    "SECRETS_DIR": [("/nonexist", "there is no folder"), ("/dev/null", "is not a folder")],
    "EC2_ENDPOINT_URL": [(f"me:{SECRET}@ec2", "http:// or https://")],
    "EC2_DEPLOYMENT": [("", "at least 1 character")],
    "EC2_MACHINE_TYPES": [("{", "it is not JSON"), ("[1]", "c6i.xlarge")],
}
#: Free text, of which only its server can say whether it is right; `ec2` has settings of its own,
#: and the key of `BOOTSTRAP_KEY` is judged with a warning.
FREE = {"EC2", "ICE_USERNAME", "ICE_CREDENTIAL", "BOOTSTRAP_KEY", "EC2_SECURITY_GROUP_IDS"}


def test_the_table_has_every_setting() -> None:
    own = {name.upper() for name in Settings.model_fields}
    ec2 = {f"EC2_{name.upper()}" for name in Ec2Settings.model_fields}
    assert own | ec2 | {"SECRETS_DIR"} == set(WRONG) | FREE


@pytest.mark.fault("B46")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [(name, value, said) for name, rows in WRONG.items() for value, said in rows],
)
def test_a_wrong_value_ends_the_process_with_one_line_that_names_the_setting(
    name: str,
    value: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:
    if value == "FILE":
        value = str(tmp_path / "table.toml")
        (tmp_path / "table.toml").write_text("a = [\n")
    good = GOOD if name != "STORAGE_DIR" else {**GOOD, "SIMHERD_S3_BUCKET": ""}
    for variable, given in {**good, f"SIMHERD_{name}": value}.items():
        monkeypatch.setenv(variable, given)
    monkeypatch.setattr("sys.argv", ["simherd-scheduler", "api"])
    with pytest.raises(SystemExit) as end:
        main()
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2, lines
    assert len(lines) == 1, lines
    assert re.match(rf"simherd-scheduler: SIMHERD_{name}\b", lines[0])
    assert said in lines[0]
    assert SECRET not in lines[0]
    # No regular expression, and no value after a sentence that has ended.
    assert "^" not in lines[0]
    assert "pattern" not in lines[0]
    assert not re.search(r"There are: .*, not ", lines[0])
    assert list(recwarn) == []


@pytest.mark.parametrize("host", ["no host", "203.0.113.9", "taken"])
def test_an_address_that_cannot_be_listened_on_names_the_settings(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"database_url": "sqlite://", "redis_url": "", "broker_url": "", "signing_key": "k"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        where = "127.0.0.1" if host == "taken" else host
        settings = Settings.model_validate({**given, "host": where, "port": port})
        with pytest.raises(SystemExit, match="2"):
            serve(FastAPI(), settings)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"simherd-scheduler: SIMHERD_HOST, SIMHERD_PORT: cannot listen on {where!r}"
    )


def test_the_help_names_every_process_and_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["simherd-scheduler", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    shown = capsys.readouterr().out
    for name in ("api", "worker", "recorder", "bootstrap", "bucket", "end-machines", "migrate"):
        assert re.search(rf"^ +{name}\s+\w", shown, re.MULTILINE), shown
