"""Operators' keys that are revoked, replaced or refused: somebody can always look after the server.

With a real API, and the real `bootstrap` of a data folder.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from sqlalchemy import select, update

from scheduler.services.accounts.admin_keys import revoke_key, rotate_key
from scheduler.services.accounts.admin_users import create_user, disable_user, set_operator
from scheduler.services.accounts.users import create_key, key_digest
from scheduler.services.errors import Conflict
from scheduler.store.engine import Store, open_engine
from scheduler.store.models import ApiKey, User
from simherd.cli.main import cli
from simherd.cli.up_view import announce
from simherd.errors import SimherdError, Unauthorized
from simherd.http import api
from simherd.local.stack import Options, Stack
from tests.support.api import serving
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.wiring import Runtime


@pytest.fixture
def rt(database_url: str, store: Store, redis_url: str, tmp_path: Path) -> Runtime:
    with store.write() as session:
        # Those of the tests before have made way.
        session.execute(update(User).values(is_operator=False, username=User.id))
    made = make_runtime(database_url, redis_url, tmp_path)[0]
    made.__dict__["send_job"] = lambda *_: None
    return made


def operator(rt: Runtime, name: str) -> str:
    """The key of a new operator."""
    with rt.store.write() as session:
        user = create_user(session, "test", name, f"{name}@localhost", operator=True)
        return create_key(session, user.id, "desk")


def revoke(rt: Runtime, key: str) -> None:
    with rt.store.write() as session:
        revoke_key(session, "test", key_digest(key)[:12])


def test_the_last_operators_key_is_not_revoked_but_replaced(rt: Runtime) -> None:
    key = operator(rt, "root")
    other = operator(rt, "other")
    disable_user(rt, "test", "other")
    with pytest.raises(Conflict, match=r"of 'root' is the last usable key .* keys create root"):
        revoke(rt, key)
    with rt.store.write() as session:
        made, _ = rotate_key(session, "test", key_digest(key)[:12])
        assert session.get_one(ApiKey, key_digest(key)).revoked_at is not None
    with pytest.raises(Conflict, match="last usable key"):
        revoke(rt, made)
    with rt.store.write() as session:
        root = session.scalars(select(User).where(User.username == "root")).one()
        create_key(session, root.id, "spare")
    revoke(rt, made)
    revoke(rt, other)


def test_the_last_operator_with_a_key_stays_one(rt: Runtime) -> None:
    operator(rt, "root")
    with rt.store.write() as session:
        create_user(session, "test", "keyless", "keyless@localhost", operator=True)
    with pytest.raises(Conflict, match="'root' is the only operator with a usable key"):
        disable_user(rt, "test", "root")
    with rt.store.write() as session, pytest.raises(Conflict, match="the only operator"):
        set_operator(session, "test", "root", operator=False)


def test_of_two_last_keys_that_are_revoked_at_once_one_stays(rt: Runtime) -> None:
    keys = [operator(rt, "one"), operator(rt, "two")]
    together, refusals = threading.Barrier(2), []

    def end(key: str) -> None:
        together.wait()
        try:
            revoke(rt, key)
        except Conflict as error:
            refusals.append(error)

    threads = [threading.Thread(target=end, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_question_names_whose_key_it_is_and_comes_after_the_search(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = operator(rt, "root")
    key_id = key_digest(key)[:12]
    with serving(rt) as url:
        monkeypatch.setenv("SIMHERD_API_URL", url)
        monkeypatch.setenv("SIMHERD_API_KEY", key)
        for verb in ("revoke", "rotate"):
            done = CliRunner().invoke(cli, ["admin", "keys", verb, key_id], input="n\n")
            assert f"{key_id} of root (desk)" in done.output
            assert done.exit_code == 1
            done = CliRunner().invoke(cli, ["admin", "keys", verb, "0" * 12])
            assert isinstance(done.exception, SimherdError)
            assert "there is no key '000000000000'" in str(done.exception)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_refused_key_is_explained_with_where_it_came_from(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "simherd" / "connection.env"
    with serving(rt) as url:
        monkeypatch.setenv("SIMHERD_API_URL", url)
        monkeypatch.setenv("SIMHERD_API_KEY", "sh_unknown")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        with pytest.raises(
            Unauthorized,
            match=r"key came from SIMHERD_API_KEY; .* `simherd auth login`.*Unset SIMHERD",
        ):
            api().get("/users/info")
        monkeypatch.delenv("SIMHERD_API_KEY")
        file.parent.mkdir()
        file.write_text("SIMHERD_API_KEY=sh_unknown\n")
        with pytest.raises(
            Unauthorized, match=f"key came from {file}; store another one with `simherd auth login`"
        ):
            api().get("/users/info")


def test_up_makes_itself_a_key_in_place_of_one_that_was_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    stored = tmp_path / "run" / "api_key"

    def up() -> Stack:
        # No machines: nothing else of the stack is needed.
        stack = Stack(Options(tmp_path, port=1, machines=0))
        stack.key = stack._secret("api_key", "sh_")
        stack.prepare({**stack._environment("redis://127.0.0.1:1"), "PATH": os.environ["PATH"]})
        announce(stack)
        return stack

    first = up()
    assert not first.has_new_key
    assert not up().has_new_key
    assert "was revoked" not in capsys.readouterr().out
    store = Store(open_engine(f"sqlite:///{tmp_path / 'simherd.db'}"))
    with store.write() as session:
        session.get_one(ApiKey, key_digest(first.key)).revoked_at = 1.0
    second = up()
    assert second.has_new_key
    assert stored.read_text() == second.key != first.key
    assert stored.stat().st_mode & 0o077 == 0
    assert f"The key in {stored} was revoked" in capsys.readouterr().out
    assert not up().has_new_key
    with store.read() as reader:
        assert reader.get_one(ApiKey, key_digest(first.key)).revoked_at == 1.0
        assert reader.get_one(ApiKey, key_digest(second.key)).revoked_at is None
    store.engine.dispose()
