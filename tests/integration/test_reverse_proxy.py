"""The reference reverse proxy: a real nginx with it, in front of a real API."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from scheduler.services.accounts.users import create_key
from simherd.runtime.health import SECURITY_HEADERS
from tests.conftest import missing
from tests.support.api_process import ApiProcess, api_process, head, response_to, status_of
from tests.support.builders import make_group, make_task
from tests.support.nginx import NGINX, Nginx
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[ApiProcess]:
    if NGINX is None:
        missing("there is no nginx on this machine (apt-get install nginx-light)")
    folder = tmp_path_factory.mktemp("api")
    trusted = {"SIMHERD_TRUSTED_PROXIES": "127.0.0.1", "SIMHERD_FAILED_KEYS_PER_MIN": "5"}
    with api_process(folder, redis_url, **trusted) as made:
        yield made


@pytest.fixture(scope="module")
def key(api: ApiProcess) -> str:
    return api.new_user("ada")


@pytest.fixture(scope="module")
def proxy(api: ApiProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o777)
    waits = {"client_header_timeout": "2s", "client_body_timeout": "2s"}
    with Nginx(folder, api.port, **waits).running() as made:
        yield made


def _connect(proxy: Nginx, **versions: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(proxy.certificate))
    for name, version in versions.items():
        setattr(context, name, version)
    raw = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_nginx_finds_nothing_wrong_with_the_configuration(proxy: Nginx) -> None:
    assert "successful" in proxy.check()
    assert "warn" not in proxy.check()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_is_spoken_from_1_2_on(proxy: Nginx) -> None:
    with _connect(proxy) as connection:
        assert connection.version() == "TLSv1.3"
    with _connect(proxy, maximum_version=ssl.TLSVersion.TLSv1_2) as connection:
        assert connection.version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        _connect(
            proxy,
            minimum_version=ssl.TLSVersion.TLSv1,
            maximum_version=ssl.TLSVersion.TLSv1_1,
        )


def test_requests_and_files_go_through(api: ApiProcess, proxy: Nginx, key: str) -> None:
    data = os.urandom(5_000_000)
    with proxy.client(**{"X-API-Key": key}) as ada:
        assert ada.get("/users/info").json()["username"] == "ada"
        assert ada.get("/projects/a%2Fb").status_code == 404
        assert "a/b" in ada.get("/projects/a%2Fb").json()["detail"]
        urls: list[str] = []
        for verb in ("upload", "download"):
            if verb == "download":
                # In chunks, without a length, as the published client sends.
                pieces = (data[at : at + 100_000] for at in range(0, len(data), 100_000))
                path = urls[0].removeprefix(api.url)
                assert ada.put(path, content=pieces).status_code == 200
            wanted = {"operation": verb, "paths": "a b.bin"}
            urls += ada.get("/storage/signed-urls", params=wanted).json()
        found = ada.get(urls[1].removeprefix(api.url))
        assert hashlib.sha256(found.content).digest() == hashlib.sha256(data).digest()


def test_a_request_line_names_thousands_of_files(proxy: Nginx, key: str) -> None:
    # As the published client asks; httpx has a limit of its own for URLs.
    names = "".join(f"&paths=folder%2F{n:04}-{'x' * 70}" for n in range(2500))
    request = head(
        f"GET /storage/signed-urls?operation=upload{names}", X_API_Key=key, Connection="close"
    )
    assert response_to(_connect(proxy), request).startswith(b"HTTP/1.1 200")


def test_events_come_as_they_happen(api: ApiProcess, proxy: Nginx) -> None:
    with api.store.write() as session:
        group = make_group(session)
        task = make_task(session, group)
        shown = {"X-API-Key": create_key(session, group.user_id, "test")}
        asked = {"ids": [task.id]}
    with (
        proxy.client(**shown) as owner,
        owner.stream("POST", "/v1/tasks/changes", json=asked) as answer,
    ):
        assert answer.status_code == 200
        lines = answer.iter_lines()
        # These come now; the response does not end before the task does.
        assert next(line for line in lines if line.startswith("event")) == "event: task"


def test_a_stranger_is_refused_at_the_head_of_a_request(proxy: Nginx) -> None:
    begun = head("POST /tasks/submit", Content_Length=30_000_000)
    assert status_of(_connect(proxy), begun) == 401
    with proxy.client() as stranger:
        assert stranger.post("/tasks/submit", content=b"x" * 200_000).status_code == 401


def test_a_client_cannot_say_where_it_is(api: ApiProcess, proxy: Nginx) -> None:
    statuses = []
    for number in range(20):
        headers = {"X-API-Key": "sh_wrong", "X-Forwarded-For": f"192.0.2.{number}"}
        with proxy.client(**headers) as guesser:
            statuses.append(guesser.get("/users/info").status_code)
    assert statuses[0] == 401
    assert 429 in statuses


@pytest.mark.parametrize(
    "begun",
    [b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", head("POST /v1/machines/join", Content_Length=99)],
    ids=["half a head", "no body"],
)
def test_what_does_not_go_on_ends(proxy: Nginx, begun: bytes) -> None:
    said = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLError):
        said = response_to(_connect(proxy), begun)
    assert said == b"" or said.startswith(b"HTTP/1.1 408")


def test_what_the_proxy_refuses_itself_is_a_problem_with_security_headers(
    proxy: Nginx, key: str
) -> None:
    begun = {
        414: head(f"GET /tasks?signature=secret&project={'x' * 300_000}", X_API_Key=key),
        413: head("POST /tasks/submit?signature=secret", X_API_Key=key, Content_Length=40_000_000),
    }
    for status, data in begun.items():
        start, _, body = response_to(_connect(proxy), data).partition(b"\r\n\r\n")
        lines = start.decode().split("\r\n")
        assert lines[0].split()[1] == str(status)
        headers = dict(line.split(": ", 1) for line in lines[1:])
        assert "detail" in json.loads(body)
        assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert headers["Strict-Transport-Security"]
    _check_logs(proxy)


def _check_logs(proxy: Nginx) -> None:
    """The logs have the paths of requests, and no queries, which hold signatures and keys."""
    until(lambda: (proxy.folder / "access.log").read_text(), timeout_s=20, what="a line")
    for name in ("access.log", "error.log"):
        text = (proxy.folder / name).read_text()
        assert "secret" not in text, text[-2000:]


def test_an_address_has_a_number_of_requests_at_one_time(
    api: ApiProcess, key: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    few = Nginx(tmp_path, api.port)
    text = few.config.read_text().replace(
        "limit_conn at_one_time 128;", "limit_conn at_one_time 2;"
    )
    few.config.write_text(text)
    with few.running(), contextlib.ExitStack() as held:
        for _ in range(3):
            connection = held.enter_context(_connect(few))
            connection.sendall(head("POST /v1/machines/join", Content_Length=99))
        # The third.
        said = connection.recv(65536)
        assert said.startswith(b"HTTP/1.1 429")
        assert b"Retry-After: 1" in said


def test_an_api_that_is_down_is_said_to_be(api: ApiProcess, tmp_path: Path, proxy: Nginx) -> None:
    tmp_path.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = int(unused.getsockname()[1])
    gone = Nginx(tmp_path, api.port)
    text = gone.config.read_text().replace(
        "location / {\n            proxy_pass $upstream;",
        f"location /tasks {{ proxy_pass http://127.0.0.1:{port}; }}\n"
        "        location / {\n            proxy_pass $upstream;",
        1,
    )
    gone.config.write_text(text)
    with gone.running(), gone.client() as client:
        answer = client.get("/tasks", params={"signature": "secret"})
        _check_logs(gone)
        assert "502" in (gone.folder / "access.log").read_text()
    assert (answer.status_code, answer.headers["Retry-After"]) == (502, "2")
    assert "proxy" in answer.json()["detail"]
