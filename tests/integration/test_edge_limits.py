"""Rates, memory for bodies, slow readers, proxies and headers of an API process."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from scheduler.api.edge import connections
from simherd.config import Connection
from simherd.http import Api
from simherd.runtime.health import SECURITY_HEADERS
from tests.support.api import serving
from tests.support.api_process import ApiProcess, api_process, head
from tests.support.runtime import make_runtime
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

#: Requests that a user may send at once, with the rate below.
_BURST = 50


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[ApiProcess]:
    settings = {
        "SIMHERD_USER_REQUESTS_PER_S": "2",
        "SIMHERD_FAILED_KEYS_PER_MIN": "30",
        "SIMHERD_TRUSTED_PROXIES": "127.0.0.1/32",
        "SIMHERD_PUBLIC_URL": "https://simherd.example",
    }
    with api_process(tmp_path_factory.mktemp("api"), redis_url, **settings) as made:
        yield made


@pytest.mark.fault("B13")
def test_a_client_that_asks_too_often_waits_and_others_do_not(api: ApiProcess) -> None:
    with api.client(api.new_user("eager")) as eager, api.client(api.new_user("calm")) as calm:
        task = {"simulator": "arbitrary-commands"}

        def refused() -> httpx.Response | None:
            answer = eager.post("/tasks/submit", json=task)
            return answer if answer.status_code == 429 else None

        answers = [refused() for _ in range(_BURST * 3)]
        (first, *_) = filter(None, answers)
        assert answers.index(first) >= _BURST
        assert int(first.headers["Retry-After"]) >= 1
        assert "a second" in first.json()["detail"]
        assert calm.get("/users/info").status_code == 200
        # Time alone lets the eager one in again.
        until(lambda: eager.get("/users/info").status_code == 200, what="another turn")


def test_an_address_with_wrong_keys_waits_but_known_users_there_do_not(api: ApiProcess) -> None:
    known, unknown = api.new_user("known"), api.new_user("unknown")
    here = {"X-Forwarded-For": "192.0.2.1"}
    with api.client(known, **here) as user, api.client("sh_wrong", **here) as guesser:
        assert user.get("/users/info").status_code == 200
        statuses = [guesser.get("/users/info").status_code for _ in range(60)]
        assert statuses[0] == 401
        assert 429 in statuses
        assert user.get("/users/info").status_code == 200
    with api.client(unknown, **here) as stranger:
        answer = stranger.get("/users/info")
        assert (answer.status_code, "Retry-After" in answer.headers) == (429, True)
    with api.client(unknown, **{"X-Forwarded-For": "192.0.2.2"}) as elsewhere:
        assert elsewhere.get("/users/info").status_code == 200


def test_only_a_trusted_proxy_can_name_the_address_of_a_client(
    tmp_path: Path, redis_url: str
) -> None:
    with api_process(tmp_path, redis_url, SIMHERD_FAILED_KEYS_PER_MIN="5") as alone:
        with alone.client("sh_wrong") as guesser:
            statuses = [
                guesser.get("/users/info", headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code
                for n in range(20)
            ]
        assert 429 in statuses


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/livez"),
        ("GET", "/users/info"),
        ("GET", "/nothing/here"),
        ("DELETE", "/users/info"),
        ("GET", "/openapi.json"),
        ("GET", "/files/a.html?user=u&verb=download&expires=1&signature=caf%C3%A9"),
        ("GET", "/docs"),
        ("GET", "/projects/%3Cscript%3Ealert(1)%3C%2Fscript%3E"),
    ],
)
def test_every_response_has_security_headers(api: ApiProcess, method: str, path: str) -> None:
    with api.client(api.new_user(f"u{abs(hash((method, path)))}")) as user:
        answer = user.request(method, path)
    assert answer.status_code < 500
    wanted = dict(SECURITY_HEADERS)
    if path.startswith(("/docs", "/files")):
        del wanted["Content-Security-Policy"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert {name: answer.headers.get(name) for name in wanted} == wanted
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    assert path == "/docs" or answer.headers["Content-Type"] == "application/json"


def test_stored_files_are_never_run_by_a_browser(api: ApiProcess) -> None:
    with api.client(api.new_user("writer")) as user:
        urls = {
            verb: user.get(
                "/storage/signed-urls", params={"operation": verb, "paths": "a.html"}
            ).json()
            for verb in ("upload",)
        }
        path = urls["upload"][0].removeprefix("https://simherd.example")
        assert user.put(path, content=b"<script>alert(1)</script>").status_code == 200
        wanted = {"operation": "download", "paths": "a.html"}
        (url,) = user.get("/storage/signed-urls", params=wanted).json()
        answer = user.get(url.removeprefix("https://simherd.example"))
    assert answer.content == b"<script>alert(1)</script>"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_bodies_of_one_user_take_a_bounded_part_of_the_memory(api: ApiProcess) -> None:
    key, size = api.new_user("large"), 15 * 1024**2
    statuses: list[int] = []
    with contextlib.ExitStack() as held:
        for _ in range(3):
            connection = held.enter_context(contextlib.closing(api.connect()))
            begun = head("POST /v1/tasks/batch", X_API_Key=key, Content_Length=size + 1)
            connection.sendall(begun)
            threading.Thread(target=_send, args=(connection, size, statuses), daemon=True).start()
        until(lambda: 429 in statuses, what="a refusal")
        with api.client(api.new_user("small")) as small:
            assert small.get("/users/info").status_code == 200


def _send(connection: socket.socket, size: int, statuses: list[int]) -> None:
    """Send all of a body but its last byte; then, what the server says to that."""
    with contextlib.suppress(OSError):
        sent = 0
        while sent < size:
            sent += connection.send(b" " * min(65536, size - sent))
    with contextlib.suppress(OSError):
        statuses.append(int(connection.recv(65536).split(b" ", 2)[1]))


def test_a_client_that_does_not_read_a_response_is_disconnected(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SLOW_READER_S", 1.0)
    rt, _ = make_runtime(f"sqlite:///{tmp_path / 'test.db'}", redis_url, tmp_path)
    large = tmp_path / "ada" / "large.bin"
    large.parent.mkdir()
    with large.open("wb") as file:
        file.truncate(64 * 1024**2)
    with serving(rt) as url, socket.socket() as reader:
        signed = rt.file_urls.sign("ada", "large.bin", "download", 60)
        path = signed.partition("/files/")[2]
        # More than the kernels hold for this connection waits for its reader.
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        reader.settimeout(30)
        host, _, port = url.removeprefix("http://").partition(":")
        reader.connect((host, int(port)))
        reader.sendall(head(f"GET /files/{path}"))
        assert reader.recv(12) == b"HTTP/1.1 200"
        mine = reader.getsockname()

        def is_let_go() -> bool:
            open_there = psutil.Process().net_connections("tcp")
            return not any(c.raddr == mine and c.status == "ESTABLISHED" for c in open_there)

        until(is_let_go, timeout_s=30, what="the end of the connection")


def test_an_upload_into_s3_takes_the_memory_of_a_part(
    tmp_path: Path, redis_url: str, s3: dict[str, str]
) -> None:
    with api_process(tmp_path, redis_url, **s3) as alone, alone.client() as uploader:
        key = alone.new_user("ada")
        before, most = alone.memory, 0
        piece = b"x" * 1024**2

        def pieces() -> Iterator[bytes]:
            nonlocal most
            for _ in range(100):
                most = max(most, alone.memory)
                yield piece

        wanted = {"operation": "upload", "paths": "large.bin"}
        shown = {"X-API-Key": key}
        (url,) = uploader.get("/storage/signed-urls", params=wanted, headers=shown).json()
        assert uploader.put(url, content=pieces()).status_code == 200
        # S3's client takes its share when it is first used.
        assert most - before < 96 * 1024**2


def test_our_client_waits_its_turn(api: ApiProcess) -> None:
    patient = Api(Connection(api.url, api.new_user("patient")))
    for _ in range(_BURST + 3):
        assert patient.get("/users/info")["username"] == "patient"
