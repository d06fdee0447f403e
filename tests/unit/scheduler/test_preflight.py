"""What a scheduler refuses to start with, and what it warns of."""

from __future__ import annotations

import ast
import logging
import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from executor.agent.partition_guard import GIVE_UP_SHARE
from scheduler import preflight
from scheduler.__main__ import main
from scheduler.config import Settings
from scheduler.domain.limits import EXECUTOR_URL_S
from scheduler.services.control.expire_deadlines import DEADLINE_BACKSTOP_S
from scheduler.services.control.reconcile_queue import SPEC_REFRESH_S
from scripts.pages.import_graph import nodes
from simherd.contract import limits
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

KEY = "0123456789abcdef0123456789abcdef"
#: A deployment with which nothing is wrong.
GOOD = {
    "SIMHERD_DATABASE_URL": "postgresql+psycopg://simherd:Xq3vR81b@db/simherd",
    "SIMHERD_REDIS_URL": "redis://:Xq3vR81b@redis:6379/0",
    "SIMHERD_BROKER_URL": "redis://:Xq3vR81b@redis:6379/1",
    "SIMHERD_SIGNING_KEY": KEY,
    "SIMHERD_S3_BUCKET": "simherd",
    "SIMHERD_HOST": "0.0.0.0",
    "SIMHERD_PUBLIC_URL": "https://simherd.example.org",
}


def look(monkeypatch: pytest.MonkeyPatch, **changed: str) -> list[preflight.Finding]:
    env = {**GOOD, **{f"SIMHERD_{name}": value for name, value in changed.items()}}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return preflight.look(Settings(), env)


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start a recorder, which must end with exit code 2; return the lines that it writes."""
    monkeypatch.setattr("sys.argv", ["simherd-scheduler", "recorder"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_nothing_is_wrong_with_a_good_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(monkeypatch) == []


@pytest.mark.fault("B46")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"REDIS_URL": None}, "SIMHERD_REDIS_URL: it is not set, and there is no default"),
        ({"SWEEP_S": "10s"}, "without a unit: 90, not 90s"),
        ({"SWEEP_S": "10s"}, "SIMHERD_SWEEP_S: "),
        ({"SWEEP_S": "10s"}, "not '10s'"),
        ({"SLOTS": "many"}, "SIMHERD_SLOTS: "),
        ({"REDIS_SERVERS": "abc"}, "SIMHERD_REDIS_SERVERS: it is not JSON"),
        ({"EC2_ENDPOINT_URL": "ftp://x"}, "SIMHERD_EC2_ENDPOINT_URL: "),
        ({"REDIS_SERVERS": '{"a": {"url": "redis://a", "url": "redis://b"}}'}, "'url' more than"),
        ({"SIGNING_KEY": "hidden"}, "it has 6 characters"),
        ({"LOG_LEVEL": "LOUD"}, "SIMHERD_LOG_LEVEL: 'LOUD' is not a level"),
        ({"PORT": "70000"}, "SIMHERD_PORT: 70000 is not a port"),
        ({"IMAGES_FILE": "/nowhere.toml"}, "SIMHERD_IMAGES_FILE: there is no file /nowhere.toml"),
    ],
)
def test_a_setting_that_cannot_be_ends_the_process_with_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str | None],
    said: str,
) -> None:
    more = {f"SIMHERD_{name}": value for name, value in changed.items()}
    for name, value in {**GOOD, **more}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    lines = refused(capsys, monkeypatch)
    assert len(lines) == 1, lines
    assert lines[0].startswith("simherd-scheduler: ")
    assert said in lines[0]
    assert "hidden" not in lines[0]


@pytest.mark.fault("B46")
def test_an_unknown_name_is_reported_with_the_nearest_known_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "simherd_singing_key").write_text(KEY)
    (tmp_path / "aws_credentials").write_text("")
    tmp_path.chmod(0o700)
    found = look(monkeypatch, REDIS_ULR="redis://x", SECRETS_DIR=str(tmp_path), FROBNICATE="1")
    assert {one.setting: one.says.partition(". ")[2] for one in found} == {
        "SIMHERD_REDIS_ULR": "Did you mean SIMHERD_REDIS_URL?",
        "SIMHERD_SINGING_KEY": "Did you mean SIMHERD_SIGNING_KEY?",
        "SIMHERD_FROBNICATE": "",
    }
    # The settings of another release stop nothing, whatever the policy.
    preflight.stop_or_warn(found, "refuse")


def test_names_of_other_programs_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """One environment may hold the settings of a client and an executor as well."""
    names = set()
    for room in ("simherd", "executor"):
        for file in (REPOSITORY / room).rglob("*.py"):
            text = file.read_text()
            names.update(re.findall(r"\bSIMHERD_[A-Z0-9_]*[A-Z0-9]\b", text))
            read = re.findall(r'_(?:need|number|one_of)\(env, "([A-Z_]+)"', text)
            names.update(f"SIMHERD_{name}" for name in read)
    assert {"SIMHERD_API_URL", "SIMHERD_STATE_DIR", "SIMHERD_SLOTS"} <= names
    env = dict.fromkeys(sorted(names), "1")
    monkeypatch.setenv("SIMHERD_SECRETS_DIR", "")
    told = preflight.look(
        Settings.model_construct(**_values(monkeypatch)), {**env, "SIMHERD_SECRETS_DIR": ""}
    )
    assert [one.setting for one in told if one.is_note] == []


@pytest.mark.fault("B46")
def test_a_name_that_is_given_twice_is_refused_or_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "simherd_redis_url").write_text("redis://another")
    tmp_path.chmod(0o700)
    (found,) = look(monkeypatch, SECRETS_DIR=str(tmp_path))
    assert found.setting == "SIMHERD_REDIS_URL"
    assert "the environment counts" in found.says
    monkeypatch.delenv("SIMHERD_SECRETS_DIR")
    monkeypatch.setenv("simherd_redis_url", "redis://another")
    (line,) = refused(capsys, monkeypatch)
    assert "SIMHERD_REDIS_URL: it is set 2 times: SIMHERD_REDIS_URL, simherd_redis_url" in line


@pytest.mark.fault("B46")
@pytest.mark.parametrize(
    ("folder", "file", "is_told"),
    [
        (0o755, 0o644, True),
        (0o755, 0o604, True),
        (0o755, 0o660, True),
        (0o755, 0o640, False),
        (0o755, 0o600, False),
        # Nobody else comes as far as the file.
        (0o700, 0o644, False),
    ],
)
def test_a_secret_that_others_can_read_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: int, file: int, is_told: bool
) -> None:
    secret = tmp_path / "simherd_smtp_url"
    secret.write_text("smtp://mail.example.org:587")
    secret.chmod(file)
    tmp_path.chmod(folder)
    monkeypatch.setenv("SIMHERD_SMTP_URL", "")
    found = preflight.look(
        Settings.model_construct(**_values(monkeypatch)), {"SIMHERD_SECRETS_DIR": str(tmp_path)}
    )
    assert [one.setting for one in found] == (["SIMHERD_SMTP_URL"] if is_told else [])
    assert all(f"chmod 600 {secret}" in one.says for one in found)


def _values(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("SIMHERD_SMTP_URL", raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return Settings().__dict__


@pytest.mark.fault("B47")
@pytest.mark.parametrize(
    ("changed", "setting", "word"),
    [
        ({"REGISTER_S": "3600"}, "SIMHERD_REGISTER_S", "join token"),
        ({"GRACE_S": "1"}, "SIMHERD_GRACE_S", "heartbeats"),
        ({"BROKER_URL": GOOD["SIMHERD_REDIS_URL"]}, "SIMHERD_BROKER_URL", "/1"),
        ({"REDIS_SERVERS": '{"b": {"url": "redis://:Xq3vR81b@redis"}}'}, "SIMHERD_REDIS_S", "same"),
        ({"S3_BUCKET": ""}, "SIMHERD_STORAGE_DIR", "there is no storage"),
        ({"STORAGE_DIR": "/dev/null"}, "SIMHERD_STORAGE_DIR", "not a folder"),
        ({"PUBLIC_URL": "simherd.example.org"}, "SIMHERD_PUBLIC_URL", "https://"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], setting: str, word: str
) -> None:
    (found,) = look(monkeypatch, **changed)
    assert found.setting.startswith(setting)
    assert word in found.says
    assert found.is_contradiction
    with pytest.raises(SystemExit, match="2"):
        preflight.stop_or_warn([found], "warn")


@pytest.mark.fault("B47")
def test_constant_times_are_consistent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    from scheduler.jobs.app import make_app

    conf = make_app().conf
    # A job that is still running must not be given to another worker.
    assert conf.task_soft_time_limit < conf.task_time_limit
    assert conf.task_time_limit < conf.broker_transport_options["visibility_timeout"]
    # An agent stops its attempts before the scheduler gives them to another machine.
    assert 2 * limits.HEARTBEAT_S < limits.LEASE_S < limits.RECONNECT_WINDOW_S
    left = (1 - GIVE_UP_SHARE) * limits.RECONNECT_WINDOW_S
    assert left > limits.STOP_GRACE_S + limits.LEASE_S
    assert DEADLINE_BACKSTOP_S > limits.STOP_GRACE_S
    # S3 signs for 7 days at the most; what waits for longer is signed anew before.
    assert SPEC_REFRESH_S < EXECUTOR_URL_S <= 7 * 86400


@pytest.mark.fault("B48")
def test_an_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 10, 14, "final", 0))
    (found,) = look(monkeypatch)
    assert found.is_contradiction
    assert "needs Python 3.11" in found.says
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"


@pytest.mark.fault("B31", "B48")
def test_the_tarfile_module_which_older_pythons_have_faults_in_is_not_used() -> None:
    """CVE-2025-8194, CVE-2025-4517 and others: so 3.11.0 to 3.11.13 are safe as well."""
    users = []
    for room in ("simherd", "scheduler", "executor"):
        for file in (REPOSITORY / room).rglob("*.py"):
            if "tarfile" not in file.read_text():
                continue
            for node in nodes(file):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                users += [str(file)] if "tarfile" in names else []
    assert users == []


@pytest.mark.fault("B49")
@pytest.mark.parametrize(
    ("changed", "setting", "word", "is_refused"),
    [
        ({"PUBLIC_URL": "http://simherd.example.org"}, "SIMHERD_HOST", "TLS", False),
        ({"HOST": "::", "PUBLIC_URL": "http://simherd.example.org"}, "SIMHERD_HOST", "TLS", False),
        ({"LOG_LEVEL": "debug"}, "SIMHERD_LOG_LEVEL", "INFO", False),
        ({"SIGNING_KEY": "k" * 40}, "SIMHERD_SIGNING_KEY", "openssl rand", True),
        ({"SIGNING_KEY": "changeme" * 4}, "SIMHERD_SIGNING_KEY", "openssl rand", True),
        ({"BOOTSTRAP_KEY": "sh_first"}, "SIMHERD_BOOTSTRAP_KEY", "openssl rand", False),
        (
            {"DATABASE_URL": "postgresql+psycopg://a:postgres@db/a"},
            "SIMHERD_DATABASE_URL",
            "first",
            False,
        ),
        (
            {"DATABASE_URL": "postgresql+psycopg://ab:ab@db/a"},
            "SIMHERD_DATABASE_URL",
            "first",
            False,
        ),
        ({"REDIS_URL": "redis://redis:6379/0"}, "SIMHERD_REDIS_URL", "no password", False),
        ({"BROKER_URL": "redis://:redis@redis/1"}, "SIMHERD_BROKER_URL", "first", False),
    ],
)
def test_a_setting_that_lets_strangers_in_is_reported_or_refused(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changed: dict[str, str],
    setting: str,
    word: str,
    is_refused: bool,
) -> None:
    (found,) = look(monkeypatch, **changed)
    assert (found.setting, found.is_contradiction) == (setting, is_refused)
    assert word in found.says
    for secret in changed.values():
        assert "://" not in secret or secret not in found.says
    if not is_refused:
        with caplog.at_level(logging.WARNING):
            preflight.stop_or_warn([found], "warn")
        assert f"event=unsafe_setting setting={setting}" in caplog.text
    with pytest.raises(SystemExit, match="2"):
        preflight.stop_or_warn([found], "refuse")


@pytest.mark.fault("B49")
def test_one_persons_simherd_may_be_simple(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(
        monkeypatch,
        DATABASE_URL="sqlite:///simherd.db",
        REDIS_URL="redis://:redis@127.0.0.1:6379/0",
        SIGNING_KEY="k",
        HOST="127.0.0.1",
        PUBLIC_URL="http://127.0.0.1:8000",
        LOG_LEVEL="DEBUG",
        GRACE_S="1",
    )
    assert found == []
