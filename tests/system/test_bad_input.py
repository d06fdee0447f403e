"""Bad input: a clear error that names the field, the right final status, nothing left behind."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.env import zipped

if TYPE_CHECKING:
    from tests.support.env import Env

LINK = 0o120777 << 16


def _body(env: Env, **changes: Any) -> dict[str, Any]:
    body = {
        "simulator": "arbitrary_commands",
        "resource_pool": env.api.get("/compute/group/local").json()["id"],
        "container_image": "x",
        "extra_params": {"commands": [{"cmd": "true"}]},
    }
    return {**body, **changes}


@pytest.mark.fault("B9")
@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"resource_pool": "no-such-group"}, 404, "resource_pool"),
        ({"time_to_live_seconds": -1}, 422, "time_to_live_seconds"),
        ({"time_to_live_seconds": 0}, 422, "time_to_live_seconds"),
        ({"time_to_live_seconds": "soon"}, 422, "time_to_live_seconds"),
        ({"time_to_live_seconds": 1e308}, 422, "time_to_live_seconds"),
        ({"container_image": ""}, 422, "container_image"),
        ({"extra_params": {}}, 422, "commands"),
        ({"extra_params": {"commands": [{"cmd": "echo 'open"}]}}, 422, "commands[0].cmd"),
        ({"extra_params": {"commands": [{"cmd": ""}]}}, 422, "commands[0].cmd"),
        ({"extra_params": {"commands": [{"no": "cmd"}]}}, 422, "commands[0]"),
        ({"storage_path_prefix": "../other"}, 422, "storage_path_prefix"),
        ({"input_resources": ["../other"]}, 422, "input_resources"),
        ({"attempt": 7}, 422, "attempt"),
    ],
)
def test_a_submission_that_cannot_be_is_refused(
    env: Env, changes: dict[str, Any], status: int, words: str
) -> None:
    before = env.api.get("/tasks").json()["total_size"]
    answer = env.api.post("/tasks/submit", json=_body(env, **changes))
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert env.api.get("/tasks").json()["total_size"] == before


@pytest.mark.fault("B1")
def test_a_body_that_is_too_large_is_refused_whole(env: Env) -> None:
    def chunks() -> Any:
        for _ in range(64):
            yield b"x" * 65536

    answer = env.api.post("/tasks/submit", content=chunks())
    assert answer.status_code == 413
    assert "body" in answer.json()["detail"]


@pytest.mark.fault("B2")
@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'{"simulator": NaN}', b"\xff"])
def test_a_body_that_is_not_json_is_refused(env: Env, body: bytes) -> None:
    answer = env.api.post(
        "/tasks/submit", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {400, 422}
    assert answer.json()["detail"]


@pytest.mark.fault("B5")
@pytest.mark.parametrize("key", [None, "wrong", "sh_" + "x" * 43])
def test_a_wrong_key_opens_nothing(env: Env, key: str | None) -> None:
    headers = {} if key is None else {"X-API-Key": key}
    for method, path in [("GET", "/tasks"), ("GET", "/users/info"), ("POST", "/tasks/x/kill")]:
        answer = httpx.request(method, env.url + path, headers=headers, trust_env=False, timeout=60)
        assert answer.status_code == 401
        assert "X-API-Key" in answer.json()["detail"]


def test_a_file_url_opens_only_what_it_was_signed_for(env: Env) -> None:
    task_id = env.submit("true")
    env.wait(task_id)
    (url,) = env.api.get(
        "/storage/signed-urls",
        params={"operation": "download", "paths": f"{task_id}/input.zip"},
    ).json()
    for other in (
        url.replace("input.zip", "attempts/1/output.zip"),
        url.replace("verb=download", "verb=upload"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.replace("expires=", "expires=9"),
    ):
        assert httpx.get(other, trust_env=False, timeout=60).status_code == 403
        assert httpx.put(other, content=b"x", trust_env=False, timeout=60).status_code == 403
    assert httpx.get(url, trust_env=False, timeout=60).status_code == 200


def test_an_input_that_was_never_uploaded_is_named(env: Env) -> None:
    task_id = env.api.post("/tasks/submit", json=_body(env)).json()["id"]
    answer = env.api.post(f"/tasks/{task_id}/input_uploaded")
    assert answer.status_code == 409
    assert "input" in answer.json()["detail"]
    env.api.post(f"/tasks/{task_id}/kill")
    late = env.api.post(f"/tasks/{task_id}/input_uploaded")
    assert late.status_code == 409
    assert env.status(task_id) == "killed"


def _archive(name: str, *, link_to: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo(name)
        if link_to is not None:
            member.create_system, member.external_attr = 3, LINK
        archive.writestr(member, link_to or "x")
    return buffer.getvalue()


@pytest.mark.fault("B25", "B26", "B31")
@pytest.mark.parametrize(
    ("archive", "named"),
    [
        (_archive("sim_dir/../../evil"), "evil"),
        (_archive("/etc/evil"), "evil"),
        (_archive("sim_dir/link", link_to="/etc"), "link"),
        (_archive("sim_dir/link", link_to="../../../../etc"), "link"),
        (b"this is no zip", "input archive"),
        (zipped({"a": "x"})[:-10], "input archive"),
    ],
)
def test_a_hostile_input_archive_ends_the_task(env: Env, archive: bytes, named: str) -> None:
    task = env.wait(env.submit("true", archive=archive))
    assert task["status"] == "executer-failed"
    assert task["cause"] == "input_invalid"
    assert named in task["error_detail"]
    left = list((env.data / "machines").glob("*/attempts/*"))
    assert not [p for p in left if task["task_id"] in p.name]


@pytest.mark.fault("B12")
@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/tasks", {"page": "0"}),
        ("/tasks", {"per_page": "100000"}),
        ("/tasks", {"status": "no-such-status"}),
        ("/storage/signed-urls", {"operation": "upload", "paths": "a/../../b"}),
        ("/storage/signed-urls", {"operation": "erase", "paths": "a"}),
        ("/storage/zip-contents", {"path": ""}),
    ],
)
def test_a_query_that_cannot_be_is_refused(env: Env, path: str, params: dict[str, str]) -> None:
    answer = env.api.get(path, params=params)
    assert answer.status_code == 422
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine_type": "abacus-1"}, "abacus-1"),
        ({"machine_type": "local", "provider_id": "MOON"}, "MOON"),
        ({"machine_type": "local", "num_vms": 0}, "num_vms"),
        ({"machine_type": "local", "name": "local"}, "local"),
        ({"machine_type": "local", "name": "../x"}, "name"),
    ],
)
def test_a_machine_group_that_cannot_be_is_refused(
    env: Env, changes: dict[str, Any], words: str
) -> None:
    answer = env.api.post("/compute/group", json=changes)
    assert answer.status_code in {409, 422}
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"warn_signal": "SIGKILL"}, "warn_signal"),
        ({"warn_signal": 9}, "warn_signal"),
        ({"warn_before_s": -1}, "warn_before_s"),
        ({"warn_before_s": "soon"}, "warn_before_s"),
        ({"stop_grace_s": -1}, "stop_grace_s"),
        ({"stop_grace_s": 1e9}, "stop_grace_s"),
        ({"stop_grace_s": "long"}, "stop_grace_s"),
        ({"stall_after_s": -1}, "stall_after_s"),
        ({"stall_after_s": "soon"}, "stall_after_s"),
        ({"stall_after_s": 1e12}, "stall_after_s"),
        ({"network": "yes"}, "network"),
        # The group of this machine allows none.
        ({"network": True}, "network"),
        ({"env": ["A=b"]}, "env"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused(
    env: Env, extra: dict[str, object], named: str
) -> None:
    group = env.api.get("/compute/group/local").json()["id"]
    body = {
        "simulator": "arbitrary_commands",
        "resource_pool": group,
        "container_image": "any",
        "extra_params": {"commands": [{"cmd": "true"}], **extra},
    }
    answer = env.api.post("/tasks/submit", json=body)
    assert answer.status_code == 422
    assert f"extra_params.{named}" in answer.json()["detail"]


def test_a_policy_that_cannot_be_is_refused(env: Env) -> None:
    body = {"machine_type": "local", "provider_id": "LOCAL", "policy": {"privileged": True}}
    answer = env.api.post("/compute/group", json=body)
    assert answer.status_code == 422
    assert "policy.privileged" in answer.json()["detail"]
    done = env.cli("resources", "start", "local", "--policy", "network")
    assert done.returncode == 1
    assert "NAME=VALUE" in done.stderr
