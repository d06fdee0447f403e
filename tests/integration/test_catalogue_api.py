"""The catalogue, the version check and the groups that were, over the HTTP API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from scheduler.services.accounts.users import create_key
from scheduler.services.ids import new_uuid
from scheduler.services.projects.projects import ensure_project
from scheduler.store.models import AttemptRow, MachineRow
from tests.support.api import serving, user_of
from tests.support.builders import make_group, make_task
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime

TYPES = """
[providers]
GCP = "local"
[defaults]
zone = "west-1"
region = "west"
[[machine_type]]
name = "c2-standard-4"
vcpus = 4
memory_gb = 16
on_demand = 0.2
spot = 0.05
[[machine_type]]
name = "c2-highcpu-16"
vcpus = 16
memory_gb = 16
on_demand = 0.7
spot = 0.1
zone = "east-1"
[[machine_type]]
name = "g2-standard-8"
vcpus = 8
memory_gb = 32
on_demand = 1.0
spot = 0.4
gpus = 1
gpu_name = "NVIDIA L4"
"""


@pytest.fixture(scope="module")
def api(
    database_url: str, store: Store, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Runtime, str]]:
    """A scheduler's parts, and the URL of their API."""
    folder = tmp_path_factory.mktemp("parts")
    rt = make_runtime(database_url, redis_url, folder)[0]
    (folder / "types.toml").write_text(TYPES)
    rt.settings.machine_types_file = folder / "types.toml"
    with serving(rt) as url:
        yield rt, url


@pytest.fixture
def http(api: tuple[Runtime, str]) -> httpx.Client:
    """Somebody without a key."""
    return user_of(api[1])


@pytest.mark.conforms("GET /version-check")
@pytest.mark.parametrize(
    ("version", "code"),
    [
        *((version, 200) for version in ("0.18.12", "0.18.0", "1.0", "0.18.13.dev1")),
        *((version, 406) for version in ("0.17.9", "0.9.0")),
        *((version, 422) for version in ("new", "")),
    ],
)
def test_old_clients_get_a_request_to_upgrade(http: httpx.Client, version: str, code: int) -> None:
    answer = http.get("/version-check", params={"client_version": version})
    assert answer.status_code == code
    if code == 200:
        found = answer.json()
        assert found["is_valid"] is True
        assert found["client_version"] == version
        assert found["server_version"]
    else:
        assert "client_version" in answer.json()["detail"]


@pytest.mark.conforms("GET /simulators/available-images")
def test_images_are_listed_without_a_key(http: httpx.Client) -> None:
    found = http.get("/simulators/available-images").json()
    assert found["production"]["reef3d"]
    assert found["development"] == {}


@pytest.mark.conforms("GET /pricing/machine-types")
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["c2-standard-4", "c2-highcpu-16", "g2-standard-8"]),
        ({"machine_families": ["c2", "n2"]}, ["c2-standard-4", "c2-highcpu-16"]),
        ({"machine_configs": "standard"}, ["c2-standard-4", "g2-standard-8"]),
        ({"vcpus_range": [5, 16]}, ["c2-highcpu-16", "g2-standard-8"]),
        ({"memory_range": [32, 64]}, ["g2-standard-8"]),
        ({"gpus_range": [1, 8]}, ["g2-standard-8"]),
        ({"gpu_names": "nvidia l4"}, ["g2-standard-8"]),
        ({"zones": ["east-1"]}, ["c2-highcpu-16"]),
        ({"machine_families": "c2", "vcpus_range": [1, 4]}, ["c2-standard-4"]),
        ({"provider_id": "LYCEUM"}, []),
    ],
)
def test_machine_types_are_chosen(http: httpx.Client, query: dict[str, Any], names: Any) -> None:
    found = http.get("/pricing/machine-types", params={**query, "spot": "true"}).json()
    assert [t["machine_type"] for t in found] == names


def test_each_machine_type_has_two_prices(http: httpx.Client) -> None:
    found = http.get("/pricing/machine-types", params={"price_range": [0.15, 0.5]}).json()
    seen = [(t["machine_type"], t["spot"], t["price"]) for t in found]
    assert seen == [("c2-standard-4", False, 0.2), ("g2-standard-8", True, 0.4)]
    # The published client wants to see every one of these, whatever it is.
    assert found[0]["gpu_id"] is None
    assert found[0]["gpu_name"] is None
    assert found[0]["num_gpus"] == 0


def test_a_filter_that_cannot_be_is_named(http: httpx.Client) -> None:
    for query in ({"vcpus_range": [1]}, {"price_range": [2, 1]}, {"memory_range": [1, 2, 3]}):
        refused = http.get("/pricing/machine-types", params=query)
        assert refused.status_code == 422
        assert next(iter(query)) in refused.json()["detail"]
    assert http.get("/pricing/machine-types", params={"provider_id": "AWS"}).status_code == 422


@pytest.mark.conforms("GET /compute/groups/history", "GET /compute/machine_types")
def test_groups_that_are_gone_are_remembered(api: tuple[Runtime, str]) -> None:
    rt, url = api
    now = time.time()
    with rt.store.write() as session:
        gone = make_group(
            session,
            status="terminated",
            created_at=now - 7200,
            started_at=now - 7200,
            terminated_at=now,
            end_cause="group_idle",
        )
        key = create_key(session, gone.user_id, "test")
        user_id, gone_id = gone.user_id, gone.id
        project = ensure_project(session, user_id, "study")
        task = make_task(session, gone, project_id=project.id)
        session.add(
            AttemptRow(task_id=task.id, attempt=1, started_at=0, ended_at=600, price_hour=0)
        )
        session.add(
            MachineRow(
                id=new_uuid(),
                group_id=gone_id,
                name="m",
                status="any",
                handle={},
                created_at=now - 3600,
                launched_at=now - 3600,
                terminated_at=now,
            )
        )
        other = make_group(session)
        other.user_id = user_id
        other_id = other.id
        make_group(session)  # somebody else's
    http = user_of(url, key)

    def ids(**query: Any) -> list[str]:
        return [g["id"] for g in http.get("/compute/groups/history", params=query).json()]

    assert ids() == [other_id, gone_id]
    assert ids(page=2, per_page=1) == [gone_id]
    assert ids(non_active_only=True) == [gone_id]
    assert ids(project="study") == [gone_id]
    assert ids(provider_id="GCP") == []
    assert ids(created_after="2100-01-01T00:00:00+00:00") == []
    assert ids(created_before="2000-01-01T00:00:00+00:00") == []
    found = http.get("/compute/groups/history", params={"non_active_only": True}).json()[0]
    assert found["termination_reason"] == "group_idle"
    assert found["costs"]["cost"] == pytest.approx(0.1, rel=0.01)
    times = {name: row["value"] for name, row in found["statistics"].items()}
    assert times == {
        "total_time": pytest.approx(3600),
        "task_time": 600,
        "idle_time": pytest.approx(3000),
    }
    types = http.get("/compute/machine_types", params={"spot": False}).json()
    assert types[0]["machine_type"] == "c2-standard-4"
    assert user_of(url).get("/compute/machine_types").status_code == 401
