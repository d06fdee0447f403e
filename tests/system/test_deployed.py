"""The same as other modules test, on PostgreSQL and S3 as a deployment has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support import servers
from tests.support.env import Env, zipped
from tests.system import test_client, test_inductiva_storage, test_storage_client, test_task

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def env(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, s3: dict[str, str]
) -> Iterator[Env]:
    with servers.new_database(postgres_server) as database:
        made = Env(
            tmp_path_factory.mktemp("deployed"),
            *("--backend", "process", "--machines", "2"),
            SIMHERD_SWEEP_S="1",
            SIMHERD_DATABASE_URL=database,
            SIMHERD_OUTBOUND_ALLOW="127.0.0.1/32",
            **s3,
        )
        made.start()
        yield made
        made.stop()


# A fixture of this module comes before the one that those modules take.
for module in (test_task, test_client):
    for name, value in vars(module).items():
        if name.startswith("test_") or name in {"_connected", "case", "web"}:
            globals()[name] = value

# What depends on the kind of storage, and that the published client can do with S3 too.
for module, names in (
    (
        test_storage_client,
        (
            *("folder", "source"),
            "test_a_folder_goes_there_and_comes_back",
            "test_zips_are_unpacked_or_kept_or_looked_into",
            "test_a_file_of_a_tasks_outputs_is_had_alone",
            "test_a_copy_goes_over_nothing",
            "test_a_url_is_fetched",
        ),
    ),
    (test_inductiva_storage, ("place", "test_every_storage_function")),
):
    globals().update({name: getattr(module, name) for name in names})


def test_it_is_postgres_and_s3_indeed(env: Env) -> None:
    task_id = env.submit("true")
    env.wait(task_id)
    assert not (env.data / "simherd.db").exists()
    assert not [p for p in (env.data / "storage").rglob("*") if p.is_file()]
    path = env.task(task_id)["storage_output_path"]
    urls = env.api.get("/storage/signed-urls", params={"operation": "download", "paths": path})
    answer = httpx.get(urls.json()[0], trust_env=False, timeout=60)
    assert "X-Amz-Signature" in answer.headers["location"]


def test_only_local_is_on_by_itself_and_up_says_that_nothing_is_isolated(env: Env) -> None:
    for provider in ("docker", "ec2", "external"):
        made = env.api.post("/compute/group", json={"machine_type": "local", "provider": provider})
        assert made.status_code == 422
        assert "There are: local." in made.json()["detail"]
    assert "insecure: simulations are not isolated" in (env.folder / "up.log").read_text()
    # Its first group is what tasks go to that name none.
    assert env.api.get("/v1/default-group").json()["name"] == "local"


def test_inputs_of_a_batch_go_to_the_api(env: Env) -> None:
    """S3 itself takes no upload without its length, which is how clients send what they pack."""
    body = {
        "simulator": "arbitrary_commands",
        "resource_pool": env.api.get("/compute/group/local").json()["id"],
        "container_image": "any",
        "extra_params": {"commands": ["true"]},
    }
    (made,) = env.api.post("/v1/tasks/batch", json={"tasks": [body]}).json()
    assert made["upload_url"].startswith(env.url)
    sent = httpx.put(made["upload_url"], content=iter([zipped({})]), trust_env=False, timeout=60)
    assert sent.status_code == 200
    env.api.post("/v1/tasks/batch/input_uploaded", json={"ids": [made["id"]]})
    assert env.wait(made["id"])["status"] == "success"
