"""What an ordinary user tries on a deployment that has the compose file's settings.

`tests/system/test_fleet.py` tries the same on the compose file itself, and from within a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from scheduler.services.accounts.admin_users import create_user
from scheduler.services.accounts.users import create_key
from scheduler.store.models import User
from tests.conftest import REPOSITORY
from tests.support import stranger
from tests.support.api import serving, user_of
from tests.support.builders import make_group
from tests.support.runtime import Machines, make_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from scheduler.store.engine import Store
    from tests.support.stranger import Attempt


def _compose_providers() -> str:
    """What the compose file switches on."""
    text = (REPOSITORY / "deploy" / "docker-compose.yml").read_text(encoding="utf-8")
    return str(yaml.safe_load(text)["x-scheduler"]["environment"]["SIMHERD_PROVIDERS"])


@pytest.fixture(scope="module")
def eve(
    database_url: str, store: Store, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    rt, _ = make_runtime(
        database_url,
        redis_url,
        tmp_path_factory.mktemp("storage"),
        providers=_compose_providers(),
    )
    rt.__dict__["providers"] = {"docker": Machines()}
    rt.__dict__["send_job"] = lambda *_: None
    with rt.store.write() as session:
        fleet = make_group(session, name="fleet", provider="docker", shared=True)
        session.get_one(User, fleet.user_id).is_operator = True
        key = create_key(session, create_user(session, "test", "eve", "eve@b.c").id, "test")
    with serving(rt) as url, user_of(url, key) as client:
        yield client
    rt.store.engine.dispose()


def test_the_compose_file_switches_on_what_it_needs() -> None:
    assert _compose_providers() == "docker"


@pytest.mark.parametrize("name", ["PROVIDERS", "OPERATORS", "PATHS", "TASKS"])
def test_a_stranger_is_refused_and_learns_why(eve: httpx.Client, name: str) -> None:
    attempts: list[Attempt] = getattr(stranger, name)
    group = eve.get("/compute/group/fleet").json()["id"]
    assert list(filter(None, (a.made_by(eve, fleet=group) for a in attempts))) == []


def test_a_stranger_gets_no_other_machines_than_the_operators(eve: httpx.Client) -> None:
    for fields in ({"backend": "process"}, {"provider_id": "GCP"}, {"provider_id": "LOCAL"}):
        made = eve.post("/compute/group", json={"machine_type": "local", **fields})
        assert made.json()["provider"] == "docker"


@pytest.mark.parametrize("url", stranger.SCHEMES)
def test_a_stranger_fetches_from_no_engine(eve: httpx.Client, url: str) -> None:
    asked = eve.post("/storage/input_remote", params={"url": url, "path": "loot"})
    assert asked.status_code == 422
    assert "is not an http:// or https:// URL" in asked.json()["detail"]
