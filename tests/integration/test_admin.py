"""`simherd admin` as operators type it, on a real API, and what its users notice."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select, update

from scheduler.services.accounts.admin_users import create_user
from scheduler.services.accounts.users import create_key
from scheduler.store.models import ApiKey, GroupRow, MachineRow, TaskRow, User
from simherd.cli.main import cli
from simherd.contract.backups import check
from simherd.contract.lifecycle import Status
from simherd.errors import SimherdError
from tests.support.api import serving, user_of
from tests.support.builders import make_group, make_task
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime


class Desk:
    """A server with an operator who types commands, and a user with a group and a task."""

    def __init__(self, rt: Runtime, url: str) -> None:
        self.rt, self.url = rt, url
        with rt.store.write() as session:
            root = create_user(session, "test", "root", "root@localhost", operator=True)
            self.key = create_key(session, root.id, "test")
            self.group = make_group(session, name="fleet")
            task = make_task(session, self.group, status=Status.STARTED.value, machine_id="m1")
            self.task = task.id
            self.ada = session.get_one(User, self.group.user_id)
            self.ada.username = "ada"
            for name in ("m1", "m2"):
                session.add(
                    MachineRow(
                        id=name,
                        group_id=self.group.id,
                        name=name,
                        status="started",
                        handle={},
                        created_at=time.time() - 3600,
                        launched_at=time.time() - 3600,
                        price_hour=0.5,
                    )
                )

    def types(self, *words: str, key: str | None = None, fails: bool = False) -> str:
        """Run `simherd admin`; return what it prints, or why it fails."""
        told = {"SIMHERD_API_URL": self.url, "SIMHERD_API_KEY": key or self.key}
        done = CliRunner().invoke(cli, ["admin", *words], env=told)
        assert (done.exit_code != 0) == fails, (done.output, done.exception)
        return str(done.exception) if isinstance(done.exception, SimherdError) else done.output

    def json(self, *words: str) -> Any:
        """What a command prints for programs."""
        return json.loads(self.types(*words, "--json"))

    def did(self, subject: str) -> list[str]:
        """What the audit says was done to somebody or something, the oldest first."""
        return [entry["action"] for entry in reversed(self.json("audit", "--to", subject))]

    def user(self, key: str) -> httpx.Client:
        """Who speaks to the API with a key."""
        return user_of(self.url, key)


@pytest.fixture(scope="module")
def desk(
    database_url: str, store: Store, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    rt, _ = make_runtime(database_url, redis_url, tmp_path_factory.mktemp("storage"))
    # There is no worker: what it would do soon is looked at elsewhere.
    rt.__dict__["send_job"] = lambda *_: None
    with serving(rt) as url:
        yield Desk(rt, url)
    rt.store.engine.dispose()


def test_users_are_made_disabled_and_let_in_again(desk: Desk) -> None:
    assert "was created" in desk.types("users", "create", "bob", "--email", "bob@example.org")
    for words, sentence in (
        (("bob", "--email", "b@c"), "there is a user 'bob' already"),
        (("eve", "--email", "eve"), "email: 'eve' is not an address"),
        (("e/ve", "--email", "b@c"), "username: 'e/ve' is not 1 to 64"),
    ):
        assert sentence in desk.types("users", "create", *words, fails=True)
    key = desk.json("keys", "create", "bob")["key"]
    assert "Only operators may do this" in desk.types("users", "list", key=key, fails=True)
    desk.types("users", "operator", "bob", "on")
    assert "root" in desk.types("users", "list", key=key)
    desk.types("users", "disable", "bob")
    answer = desk.user(key).get("/users/info")
    assert answer.status_code == 401
    assert "'bob' is disabled" in answer.json()["detail"]
    for change in (("disable", "root"), ("operator", "root", "off")):
        assert "'root' is the only operator" in desk.types("users", *change, fails=True)
    assert "Disabled since" in desk.types("users", "show", "bob")
    desk.types("users", "enable", "bob")
    assert desk.user(key).get("/users/info").status_code == 200
    done = ["user_create", "key_create", "operator_on", "user_disable", "user_enable"]
    assert desk.did("bob") == done
    assert "there is no user 'nobody'" in desk.types("users", "show", "nobody", fails=True)


def test_new_users_of_a_server_without_isolation_are_said_to_read_what_it_can(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("users", "create", "--email", "x@example.org")
    assert "plain processes" not in desk.types(*words, "isolated")
    monkeypatch.setattr(desk.rt.settings, "backend", "process")
    monkeypatch.setattr(desk.rt.settings, "providers", "local")
    assert "can read whatever the account" in desk.types(*words, "readers")
    # On standard error: JSON stays JSON.
    monkeypatch.setattr(desk.rt.settings, "providers", "ec2")
    assert desk.json(*words, "elsewhere")["simulations_isolated"] is True


def test_tasks_of_a_disabled_user_continue_unless_killed(desk: Desk) -> None:
    def status() -> str | None:
        with desk.rt.store.read() as session:
            return session.scalar(select(TaskRow.status).where(TaskRow.id == desk.task))

    shown = desk.types("users", "disable", "ada")
    assert "Tasks that go on: 1" in shown
    assert "Groups that are up: 1" in shown
    assert status() == Status.STARTED
    assert "say it with --yes" in desk.types("users", "disable", "ada", "--kill", fails=True)
    assert "being killed: 1" in desk.types("users", "disable", "ada", "--kill", "-y")
    assert status() in {Status.PENDING_KILL, Status.KILLED}
    desk.types("users", "enable", "ada")


@pytest.mark.fault("B5")
def test_keys_are_shown_once_expire_and_are_replaced(desk: Desk) -> None:
    first = desk.json("keys", "create", "ada", "--label", "laptop", "--for", "90d")
    assert desk.user(first["key"]).get("/users/info").status_code == 200
    listed = desk.types("keys", "list", "ada")
    assert first["id"] in listed
    assert first["key"] not in listed + desk.types("audit")
    second = desk.json("keys", "rotate", first["id"], "--keep", "1h")
    for key in (first["key"], second["key"]):
        assert desk.user(key).get("/users/info").status_code == 200
    third = desk.types("keys", "rotate", second["id"], "-y").strip().splitlines()[-1]
    assert desk.user(second["key"]).get("/users/info").status_code == 401
    assert desk.user(third).get("/users/info").status_code == 200
    # The first one's hour is over.
    with desk.rt.store.write() as session:
        keys = update(ApiKey).where(ApiKey.digest.startswith(first["id"]))
        session.execute(keys.values(expires_at=time.time() - 1))
    answer = desk.user(first["key"]).get("/users/info")
    assert "has expired" in answer.json()["detail"]
    assert "Make a new one" in desk.types("keys", "rotate", first["id"], "-y", fails=True)
    last = next(k["id"] for k in desk.json("keys", "list", "ada") if k["good"])
    assert "say it with --yes" in desk.types("keys", "revoke", last, fails=True)
    desk.types("keys", "revoke", last, "-y")
    assert desk.user(third).get("/users/info").status_code == 401
    assert "there is no key" in desk.types("keys", "revoke", "0" * 12, "-y", fails=True)


def test_quotas_are_set_and_unset(desk: Desk) -> None:
    desk.types("quotas", "set", "ada", "max_vcpus", "64")
    assert desk.json("quotas", "show", "ada")["max_vcpus"]["max_allowed"] == 64
    desk.types("quotas", "unset", "ada", "max_vcpus")
    assert desk.json("quotas", "show", "ada")["max_vcpus"]["max_allowed"] is None
    assert "There are: max_price_hour" in desk.types("quotas", "set", "ada", "x", "1", fails=True)
    assert "not a number of 0 or more" in desk.types(
        "quotas", "set", "ada", "max_vcpus", "--", "-1", fails=True
    )


def test_prices_hold_for_new_groups_and_change_no_past_cost(desk: Desk) -> None:
    key = desk.json("keys", "create", "ada")["key"]
    user = desk.user(key)

    def price_of_a_new_group() -> float:
        body = {"machine_type": "c2-standard-4", "provider_id": "LOCAL", "spot": False}
        made = user.post("/compute/group", json=body)
        assert made.status_code == 201, made.text
        return float(made.json()["cost_per_hour"]["current"])

    before = price_of_a_new_group()
    cost = desk.json("groups", "show", "fleet")["cost"]
    desk.types("prices", "set", "c2-standard-4", "--on-demand", "7.25")
    assert price_of_a_new_group() == 7.25
    told = user.get("/compute/price", params={"machine_type": "c2-standard-4"}).json()
    assert told["on_demand_price"] == 7.25
    (row,) = (p for p in desk.json("prices", "list") if p["machine_type"] == "c2-standard-4")
    assert (row["on_demand"], row["table_on_demand"]) == (7.25, before)
    assert desk.json("groups", "show", "fleet")["cost"] == pytest.approx(cost, abs=0.1)
    desk.types("prices", "unset", "c2-standard-4")
    assert price_of_a_new_group() == before
    assert "is not known" in desk.types("prices", "set", "c99", "--spot", "1", fails=True)
    assert desk.did("c2-standard-4") == ["price_set", "price_unset"]


def test_groups_of_all_users_are_shown_drained_and_terminated(desk: Desk) -> None:
    (shown,) = (g for g in desk.json("groups", "list") if g["name"] == "fleet")
    assert (shown["username"], shown["machines"]) == ("ada", 2)
    assert shown["cost"] == pytest.approx(1.0, abs=0.1)
    assert "fleet of ada: started" in desk.types("groups", "show", "fleet")
    assert "replaced: 2" in desk.types("groups", "drain", "fleet")
    with desk.rt.store.read() as session:
        machines = session.scalars(
            select(MachineRow).where(MachineRow.group_id == desk.group.id)
        ).all()
        assert {m.status for m in machines} == {"drained"}
    with desk.rt.store.write() as session:
        other = make_group(session)
        other.name = "fleet"
    assert "is the name of several" in desk.types("groups", "terminate", "fleet", "-y", fails=True)
    assert "say it with --yes" in desk.types("groups", "terminate", desk.group.id, fails=True)
    assert "shutting_down" in desk.types("groups", "terminate", desk.group.id, "-y")
    again = desk.types("groups", "terminate", desk.group.id, "-y", fails=True)
    assert "is shutting_down already" in again
    with desk.rt.store.read() as session:
        assert session.get_one(GroupRow, other.id).status == "started"
    assert desk.did("fleet") == ["group_drain", "group_terminate"]


def test_a_backup_comes_over_http(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    assert "Only you can read it" in desk.types("backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert check(file).tables["tasks"].rows == 1
    assert "is there already" in desk.types("backup", str(file), fails=True)
    assert desk.did("database") == ["backup"]
