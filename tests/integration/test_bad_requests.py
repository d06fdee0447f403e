"""Bad requests to the API, by the rows of FAULTS table B, on both databases: refused by name, with
nothing done; whatever the input, no server error."""

from __future__ import annotations

import json
import logging
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from scheduler.objects.archive import MAX_ZIP_ENTRIES, TooManyMembers, list_zip
from scheduler.services.accounts.users import create_key
from scheduler.store.models import GroupRow, TaskRow, User
from simherd.contract import objects
from simherd.contract.lifecycle import Status
from simherd.contract.task_options import TaskOptions
from simherd.runtime.logs import JsonLines, TextLines
from tests.support.api import serving, user_of
from tests.support.builders import make_group, make_task
from tests.support.env import zipped
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime


class Account:
    """A user with a group of machines of two processors, and what they ask for."""

    def __init__(self, rt: Runtime, url: str) -> None:
        self.rt = rt
        with rt.store.write() as session:
            self.group: GroupRow = make_group(session, vcpus=2)
            self.id = self.group.user_id
            session.get_one(User, self.id).is_operator = True
            self.http = user_of(url, create_key(session, self.id, "test"))

    def task(self, **fields: Any) -> str:
        """A task of theirs."""
        with self.rt.store.write() as session:
            return make_task(session, self.group, **fields).id

    def tasks(self) -> int:
        """How many there are."""
        with self.rt.store.read() as session:
            wanted = select(func.count()).select_from(TaskRow).where(TaskRow.user_id == self.id)
            return session.scalar(wanted) or 0

    def body(self, **fields: Any) -> dict[str, Any]:
        """A submission."""
        return {
            "simulator": "arbitrary_commands",
            "resource_pool": self.group.id,
            "container_image": "docker://x",
            "extra_params": {"commands": [{"cmd": "true"}]},
            **fields,
        }

    def submit(self, key: str | None = None, **fields: Any) -> httpx.Response:
        """Submit a task."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.http.post("/tasks/submit", json=self.body(**fields), headers=headers)

    def send(self, data: bytes, kind: str | None = "application/json") -> httpx.Response:
        """Send a body as it is to where tasks are submitted."""
        headers = {} if kind is None else {"Content-Type": kind}
        return self.http.post("/tasks/submit", content=data, headers=headers)

    def store(self, path: str, data: bytes) -> None:
        """Put a file into their storage."""
        file = self.rt.objects.file(self.id, path)  # type: ignore[attr-defined]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


@pytest.fixture(scope="module")
def account(
    store: Store, database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Account]:
    rt, _ = make_runtime(database_url, redis_url, tmp_path_factory.mktemp("storage"))
    rt.__dict__["send_job"] = lambda *_: None
    with serving(rt) as url:
        made = Account(rt, url)
        yield made
        made.http.close()


def _refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert all(word in detail for word in words), detail
    assert len(detail) < 4000


def test_options_are_stored_beside_what_was_sent(account: Account) -> None:
    sent = {"commands": ["run 'a b'"], "env": {"A": 1}, "something_else": {"kept": [1]}}
    answer = account.submit(extra_params=sent, has_input=False)
    assert answer.status_code == 202, answer.text
    task_id = answer.json()["id"]
    assert account.http.get(f"/tasks/{task_id}").json()["extra_params"] == sent
    with account.rt.store.read() as session:
        row = session.scalars(select(TaskRow).where(TaskRow.id == task_id)).one()
    stored = TaskOptions.decode(row.extra_params, task_id)
    assert stored == TaskOptions.read(sent)


@pytest.mark.fault("B2")
@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"[" * 100_000, 400, "nested"),
        (b'{"simulator": "x", "extra_params": ' + b'{"a":' * 60 + b"1" + b"}" * 61, 400, "nested"),
        (b'{"time_to_live_seconds": NaN}', 400, "time_to_live_seconds: NaN"),
        (b'{"priority": ' + b"1" * 400_000 + b"}", 400, "priority"),
        (b'{"simulator": "a", "simulator": "b"}', 400, "'simulator'"),
        (b'{"extra_params": {"x": "\\ud800"}}', 400, "extra_params.x"),
        (b'{"extra_params": {"x": "\\u0000"}}', 400, "extra_params.x"),
        (b'{"simulator": "\xff"}', 400, "UTF-8"),
        (b"", 422, "body"),
        (b"null", 422, "body"),
        (b"[]", 422, "body"),
        (b'"text"', 422, "body"),
    ],
    ids=range(12),
)
def test_b2_json_that_no_part_could_keep(
    account: Account, data: bytes, status: int, words: str
) -> None:
    before = account.tasks()
    _refused(account.send(data), status, words)
    assert account.tasks() == before


@pytest.mark.fault("B2")
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "json"])
def test_b2_a_body_of_another_kind(account: Account, kind: str | None) -> None:
    answer = account.send(json.dumps(account.body()).encode(), kind)
    assert answer.status_code == 422, answer.text


@pytest.mark.fault("B3")
@pytest.mark.parametrize("name", ["tenant_id", "user_id", "state", "status", "attempt", "id"])
def test_b3_a_field_that_is_not_the_users_to_set(account: Account, name: str) -> None:
    before = account.tasks()
    _refused(account.submit(**{name: "x"}), 422, name)
    batch = {"tasks": [account.body(), account.body(**{name: "x"})]}
    _refused(account.http.post("/v1/tasks/batch", json=batch), 422, name)
    assert account.tasks() == before


@pytest.mark.fault("B8")
def test_b8_the_same_key_makes_one_task_and_another_body_a_conflict(account: Account) -> None:
    before = account.tasks()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: account.submit("one-key"), range(8)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["id"] for a in answers}) == 1
    _refused(account.submit("one-key", priority=1), 409, "Idempotency-Key")
    keyed = {"tasks": [{**account.body(), "client_key": "one-key"}]}
    again = account.http.post("/v1/tasks/batch", json=keyed)
    assert again.json()[0]["id"] == answers[0].json()["id"]
    assert account.tasks() == before + 1
    for key in ("ü" * 3, "a b", "x" * 201):
        header = [(b"Idempotency-Key", key.encode())]
        refused = account.http.post("/tasks/submit", json=account.body(), headers=header)
        _refused(refused, 422, "idempotency-key")


@pytest.mark.fault("B9")
@pytest.mark.parametrize("ttl", ["0", "-1", "1e308", '"inf"', '"nan"', str(10 * 366 * 86400)])
def test_b9_a_time_to_live_out_of_bounds(account: Account, ttl: str) -> None:
    body = json.dumps(account.body(time_to_live_seconds="HERE")).replace('"HERE"', ttl)
    _refused(account.send(body.encode()), 422, "time_to_live_seconds")


@pytest.mark.fault("B9")
@pytest.mark.parametrize(
    ("method", "path", "body", "name"),
    [
        ("POST", "/v1/tasks/changes", '{"ids": ["a"], "seconds": 1e300}', "seconds"),
        ("PUT", "/v1/admin/users/a/quotas/max_tasks", '{"value": 1e300}', "value"),
        ("PUT", "/v1/admin/prices/local", '{"on_demand": 1e300}', "on_demand"),
        ("POST", "/v1/admin/keys", '{"username": "a", "label": "b", "valid_s": 1e300}', "valid_s"),
        ("POST", "/compute/group", '{"max_idle_time": 1e300}', "max_idle_time"),
        ("POST", "/compute/group", '{"disk_size_gb": 1e300}', "disk_size_gb"),
        ("POST", "/compute/group", '{"num_vms": 1000000000}', "num_vms"),
        (
            "POST",
            "/compute/group",
            '{"auto_terminate_ts": "0001-01-01T00:00:00+14:00"}',
            "auto_terminate_ts",
        ),
    ],
)
def test_b9_a_number_out_of_bounds(
    account: Account, method: str, path: str, body: str, name: str
) -> None:
    answer = account.http.request(
        method, path, content=body, headers={"Content-Type": "application/json"}
    )
    _refused(answer, 422, name)


@pytest.mark.fault("B10")
def test_b10_what_no_machine_of_the_group_has(account: Account) -> None:
    before = account.tasks()
    for option in ({"np": 64}, {"np": "64"}, {"n": 3}):
        mpi = {"commands": [{"cmd": "a", "mpi_config": {"version": "4", "options": option}}]}
        _refused(account.submit(extra_params=mpi), 422, "commands[0].mpi_config.options.np", "2")
    group: dict[str, Any] = {"machine_type": "local", "policy": {"memory_bytes": 2**49}}
    _refused(account.http.post("/compute/group", json=group), 422, "policy.memory_bytes")
    group["policy"] = {"cpus": 4000}
    _refused(account.http.post("/compute/group", json=group), 422, "policy.cpus")
    group["disk_size_gb"] = 1e9
    _refused(account.http.post("/compute/group", json=group), 422, "disk_size_gb")
    assert account.tasks() == before
    options = {"np": 64, "map-by": ":OVERSUBSCRIBE"}
    mpi = {"commands": [{"cmd": "a", "mpi_config": {"version": "4", "options": options}}]}
    assert account.submit(extra_params=mpi).status_code == 202


@pytest.mark.fault("B10")
@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"commands": [{"cmd": "a", "mpi_config": {"options": ["np", 2]}}]}, "mpi_config.options"),
        ({"commands": [{"cmd": "a", "env": {"A": {"b": 1}}}]}, "commands[0].env.A"),
        ({"commands": [{"cmd": "a"}], "env": {"A=B": "c"}}, "extra_params.env"),
        ({"commands": [{"cmd": "a"}], "env": ["A"]}, "extra_params.env"),
        ({"commands": [{"cmd": "a"}], "run_subprocess_dir": "../.."}, "run_subprocess_dir"),
        ({"commands": [{"cmd": "a"}], "run_subprocess_dir": "/etc"}, "run_subprocess_dir"),
        ({"commands": [{"cmd": "a"}], "run_subprocess_dir": {"a": 1}}, "run_subprocess_dir"),
    ],
)
def test_b10_free_parameters_that_cannot_be(
    account: Account, extra: dict[str, Any], name: str
) -> None:
    _refused(account.submit(extra_params=extra), 422, name)


@pytest.mark.fault("B11")
def test_b11_a_kill_of_what_has_ended_and_what_is_not_there(account: Account) -> None:
    ended = account.task(status=Status.SUCCESS.value, end_time=time.time())
    answer = account.http.post(f"/tasks/{ended}/kill")
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    waits = account.submit().json()["id"]
    states = [account.http.post(f"/tasks/{waits}/kill").json()["status"] for _ in range(2)]
    assert states == ["killed", "killed"]
    _refused(account.http.post("/tasks/nothing/kill"), 404, "task_id")


@pytest.mark.fault("B12")
@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/tasks", {"per_page": "1000000000"}, "per_page"),
        ("/tasks", {"page": "1000000000000000000"}, "page"),
        ("/tasks", {"page": "9" * 5000}, "page"),
        ("/projects", {"page": "1000000000000000000", "per_page": "500"}, "page"),
        ("/compute/groups/history", {"page": "1000000000000000000"}, "page"),
        ("/storage/contents", {"page": "1000000000000000000"}, "page"),
        ("/v1/admin/audit", {"before": "1000000000000000000000"}, "before"),
        ("/v1/admin/audit", {"before": "eyJpZCI6MX0="}, "before"),
        ("/tasks", {"status": "' OR 1=1 --"}, "status"),
        ("/tasks", {"project": "x" * 20_000}, "project"),
    ],
)
def test_b12_pages_and_cursors_out_of_bounds(
    account: Account, path: str, query: dict[str, str], name: str
) -> None:
    _refused(account.http.get(path, params=query), 422, name)


@pytest.mark.fault("B12")
def test_b12_sql_in_a_filter_finds_nothing(account: Account) -> None:
    account.task()
    text = "default' OR '1'='1"
    assert account.http.get("/tasks", params={"project": text}).json()["tasks"] == []
    assert account.http.get("/v1/admin/audit", params={"actor": text}).json() == []
    assert account.http.get(f"/projects/{text}").status_code == 404


ODD = {
    "a line break": "a\r\nb",
    "colours": "\x1b[31mred",
    "another direction": "a\u202egpj.exe",
    "no width": "a\u2066b",
}


@pytest.mark.fault("B16")
@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_b16_a_name_that_cannot_be_shown(account: Account, name: str) -> None:
    _refused(account.http.post("/projects", json={"name": name}), 422, "name")
    _refused(account.submit(project=name), 422, "name")
    _refused(account.submit(simulator=name), 422, "simulator")
    _refused(account.submit(container_image=name), 422, "container_image")
    _refused(account.http.post("/compute/group", json={"name": name}), 422, "name")


@pytest.mark.fault("B16")
@pytest.mark.parametrize("name", ["${jndi:ldap://a/b}", "<script>alert(1)</script>", "%n%s{0}"])
def test_b16_a_name_that_some_program_would_carry_out(account: Account, name: str) -> None:
    made = account.http.post("/projects", json={"name": name})
    assert made.json()["name"] == name
    assert made.headers["content-type"] == "application/json"
    assert name in [p["name"] for p in account.http.get("/projects").json()]


@pytest.mark.fault("B16")
@pytest.mark.parametrize("text", [*ODD.values(), "${jndi:ldap://a}"])
def test_b16_a_log_line_stays_one_line(text: str) -> None:
    record = logging.LogRecord("a", logging.INFO, "a", 1, "event=x path=%s", (text,), None)
    for line in (JsonLines("api").format(record), TextLines("%(message)s").format(record)):
        assert line.isprintable()


@pytest.mark.fault("B17")
def test_b17_a_key_or_signature_that_is_not_ascii(account: Account) -> None:
    for key in ("ü".encode(), b"\xff\xfe"):
        assert account.http.get("/tasks", headers=[(b"X-API-Key", key)]).status_code == 400
    query = {"user": "a", "verb": "download", "expires": "1", "signature": "ü"}
    assert account.http.get("/files/a", params=query).status_code == 403
    query["expires"], query["signature"] = "∞", "0" * 64
    assert account.http.get("/files/a", params=query).status_code == 403
    token = [(b"Authorization", "Bearer ü".encode())]
    answer = account.http.post("/v1/attempts/a/1/checkpoints", headers=token)
    assert answer.status_code == 403
    machine = [(b"X-Machine-Id", "ü".encode()), (b"X-Machine-Secret", "ü".encode())]
    body = {"secret_digest": "0" * 64}
    assert account.http.post("/v1/machines/secret", json=body, headers=machine).status_code == 403


def _directory(entries: int, *, name: bytes = b"artifacts/a", said: int | None = None) -> bytes:
    """A zip of entries without data, whose end says that it has `said` entries."""
    header = struct.pack("<4s6H3L5H2L", b"PK\1\2", *[0] * 9, len(name), *[0] * 6)
    directory = (header + name) * entries
    said = entries if said is None else said
    if said < 0xFFFF:
        return directory + struct.pack(
            "<4s4H2LH", b"PK\5\6", 0, 0, said, said, len(directory), 0, 0
        )
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, said, said, len(directory), 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(directory), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[0xFFFF] * 2, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return directory + end64 + locator + end


ZIPS = {
    "too many entries": (_directory(600_000), 413, "600000 entries"),
    "a directory too large": (_directory(5_000, name=b"a" * 4000), 413, "bytes"),
    "more than it says": (_directory(60_000, said=1), 422, "not as its end says"),
    "fewer than it says": (_directory(10, said=11), 422, "broken"),
    "entries that cannot be": (_directory(10, said=2**40), 413, "entries"),
    "entries on one place": (_directory(2), 422, "overlap"),
    "a name too long": (_directory(1, name=b"a" * 5000), 422, "longer than 4096"),
    "a name with NUL": (_directory(1, name=b"a\0b"), 422, "NUL"),
    "no zip": (b"PK\5\6" + b"\xff" * 18, 422, "not a zip"),
    "cut short": (zipped({"a": "b"})[:-3], 422, "not a zip"),
    "something after it": (zipped({"a": "b"}) + b"x", 422, "not a zip"),
}


@pytest.mark.fault("B28")
@pytest.mark.parametrize(("data", "status", "words"), ZIPS.values(), ids=ZIPS)
def test_a_stored_zip_whose_directory_cannot_be(
    account: Account, data: bytes, status: int, words: str
) -> None:
    task = account.task(status=Status.SUCCESS.value, end_time=time.time())
    path = objects.output_path("", task, 1)
    account.store(path, data)
    for route in ("zip-contents", "zip-file-range"):
        answer = account.http.get(f"/storage/{route}", params={"path": path, "filename": "a"})
        _refused(answer, status, "path", words)
    _refused(account.http.get(f"/v1/tasks/{task}/files"), status, "outputs", words)
    content = account.http.get(f"/v1/tasks/{task}/files/content", params={"file": "a"})
    _refused(content, status, "outputs", words)


@pytest.mark.fault("B28")
def test_a_stored_zip_with_data_that_is_none(account: Account) -> None:
    task = account.task(status=Status.SUCCESS.value, end_time=time.time())
    path = objects.output_path("", task, 1)
    whole = zipped({"a": "some text " * 1000}, "artifacts/")
    data_at = whole.index(b"artifacts/a") + len("artifacts/a")
    for broken in (
        whole[:data_at] + b"\xff" * 20 + whole[data_at + 20 :],
        whole.replace(b"PK\3\4", b"PK\3\5"),
    ):
        account.store(path, broken)
        query = {"file": "a"}
        answer = account.http.get(f"/v1/tasks/{task}/files/content", params=query)
        _refused(answer, 422, "file: 'a'", "broken")
        tail = account.http.get(f"/v1/tasks/{task}/files/tail", params=query)
        assert "broken" in tail.json()["files"][0]["detail"]


@pytest.mark.fault("B28")
def test_a_large_directory_is_refused_before_it_is_read(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.store("large.zip", ZIPS["too many entries"][0])
    store, fetched = account.rt.objects, []
    read = store.read

    def counted(user: str, path: str, start: int, length: int) -> bytes:
        data = read(user, path, start, length)
        fetched.append(len(data))
        return data

    monkeypatch.setattr(store, "read", counted)
    with pytest.raises(TooManyMembers):
        list_zip(store, account.id, "large.zip")
    assert sum(fetched) < 1024**2


def test_the_largest_directory_is_listed(account: Account) -> None:
    names = {f"{n:05d}": "" for n in range(20_000)}
    account.store("many.zip", zipped(names))
    found = account.http.get("/storage/zip-contents", params={"path": "many.zip"})
    assert len(found.json()["contents"]) == 20_000
    assert MAX_ZIP_ENTRIES > 20_000


@pytest.mark.fault("B12")
@pytest.mark.parametrize(
    "month", ["9999-12", "9999-01", "1969-12", "0000-01", "10000-01", "2026-13"]
)
def test_a_month_that_cannot_be_counted_is_refused(account: Account, month: str) -> None:
    _refused(account.http.get("/v1/costs", params={"month": month}), 422, "month", month)


@pytest.mark.parametrize("month", ["1970-01", "9998-12"])
def test_the_first_and_the_last_month_cost_nothing(account: Account, month: str) -> None:
    assert account.http.get("/v1/costs", params={"month": month}).json()["total"] == 0
    year, number = month.split("-")
    query = {"start_year": year, "start_month": number, "end_year": year, "end_month": number}
    assert account.http.get("/users/costs", params=query).is_success
