"""Quotas that users have from the start, with real SQL, a real API and its command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from sqlalchemy import select

from scheduler.config import DEFAULT_QUOTAS, StoreSettings
from scheduler.services.accounts.admin_users import create_user
from scheduler.services.accounts.users import create_key
from scheduler.services.bootstrap import bootstrap
from scheduler.store.models import User
from simherd.cli.main import cli
from tests.support.api import serving
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime

#: What this server's operator has set: one quota is lower than the built-in one, one is off.
SETTING = {"max_vcpus": 8, "max_queued_tasks": None}
GIVEN = {"max_price_hour": 20, "max_vcpus": 8, "max_instances": 32, "max_storage_gb": 200}


@pytest.fixture(scope="module")
def rt(
    database_url: str, store: Store, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Runtime:
    folder = tmp_path_factory.mktemp("storage")
    more = {"default_quotas": SETTING, "bootstrap_key": "k" * 20, "bootstrap_machines": 0}
    return make_runtime(database_url, redis_url, folder, **more)[0]


@pytest.fixture(scope="module")
def types(rt: Runtime) -> Iterator[Callable[..., str]]:
    """Runs `simherd` as an operator who was there before quotas had defaults."""
    with rt.store.write() as session:
        old = create_user(session, "test", "old", "old@localhost", operator=True)
        key = create_key(session, old.id, "test")
    with serving(rt) as url:

        def run(*words: str) -> str:
            told = {"SIMHERD_API_URL": url, "SIMHERD_API_KEY": key}
            done = CliRunner().invoke(cli, words, env=told)
            assert done.exit_code == 0, (done.output, done.exception)
            return done.output

        yield run


def quotas(rt: Runtime, username: str) -> dict[str, float]:
    with rt.store.read() as session:
        return dict(session.scalars(select(User.quotas).where(User.username == username)).one())


def test_the_first_user_of_simherd_up_has_the_defaults(rt: Runtime) -> None:
    bootstrap(rt)
    assert quotas(rt, "local") == GIVEN


def test_a_user_made_by_an_operator_has_the_defaults(
    rt: Runtime, types: Callable[..., str]
) -> None:
    types("admin", "users", "create", "ada", "--email", "ada@localhost")
    types("admin", "users", "create", "bob", "--email", "bob@localhost", "--operator")
    assert quotas(rt, "ada") == quotas(rt, "bob") == GIVEN


def test_users_of_before_get_them_from_an_operator_and_keep_what_was_set(
    rt: Runtime, types: Callable[..., str]
) -> None:
    assert quotas(rt, "old") == {}
    types("admin", "quotas", "set", "old", "max_vcpus", "512")
    with rt.store.write() as session:
        create_user(session, "test", "older", "older@localhost")
    said = types("admin", "quotas", "defaults", "old")
    assert said == "old: max_instances, max_price_hour, max_storage_gb.\n"
    assert quotas(rt, "old") == {**GIVEN, "max_vcpus": 512}
    assert "older: " in types("admin", "quotas", "defaults", "--all-users")
    assert quotas(rt, "older") == GIVEN
    assert types("admin", "quotas", "defaults", "--all-users").startswith("Every default quota")
    (entry,) = [
        e
        for e in json.loads(types("admin", "audit", "--to", "older", "--json"))
        if e["action"] == "quota_defaults"
    ]
    assert entry["facts"]["max_vcpus"] == 8


def test_a_user_sees_every_quota_with_its_use_by_one_word(types: Callable[..., str]) -> None:
    types("admin", "quotas", "set", "old", "max_storage_gb", "3")
    rows = {line.split()[0]: line.split()[-3:] for line in types("quotas").splitlines()}
    assert rows["max_storage_gb"] == ["0", "3", "GiB"]
    assert rows["max_queued_tasks"] == ["0", "no", "task"]
    assert set(rows) == {"QUOTA", *DEFAULT_QUOTAS}
    assert types("quotas") == types("quotas", "list")


def test_the_first_operator_of_a_deployment_has_the_defaults(
    rt: Runtime, database_url: str, tmp_path: Path
) -> None:
    environment = {
        "SIMHERD_DATABASE_URL": database_url,
        "SIMHERD_DEFAULT_QUOTAS": json.dumps(SETTING),
    }
    argv = [sys.executable, "-m", "scheduler", "operator", "create", "first"]
    subprocess.run(argv, env=environment, cwd=tmp_path, check=True, capture_output=True)
    assert quotas(rt, "first") == GIVEN


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_luck": 1}, "there is no quota 'max_luck'. There are: max_price_hour"),
        ({"max_vcpus": -1}, "max_vcpus: -1.0 is not a number from 0 on"),
        ({"max_vcpus": "nan"}, "max_vcpus: nan is not a number from 0 on"),
    ],
)
def test_defaults_that_cannot_be_are_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        StoreSettings(database_url="sqlite://", default_quotas=given)
