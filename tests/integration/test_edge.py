"""What strangers send to an API process, as a deployment starts it: it is refused before it is
read, ends in time, takes no memory, and keeps nobody from being served."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from scheduler.api.app import rules
from scheduler.api.edge.access import MAX_BODY_BYTES, Credential
from scheduler.api.edge.connections import MAX_WAITING_CONNECTIONS
from scheduler.api.edge.guard import MAX_KEY_CHARACTERS, MAX_QUERY_PARAMETERS
from scheduler.api.edge.limits import MAX_HEAD_FIELDS, MAX_OPEN_BODY_BYTES
from tests.support.api_process import ApiProcess, api_process, head, response_to, status_of
from tests.support.waits import until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

MIB = 1024**2
#: What the issue allows a flood of strangers to cost.
MOST_GROWTH = 64 * MIB
#: Seconds of each flood.
_FLOOD_S = 2.0


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[ApiProcess]:
    """A process that waits less long than a deployment's does."""
    settings = {
        "SIMHERD_REQUEST_HEAD_S": "1",
        "SIMHERD_REQUEST_BODY_S": "1",
        # All come from one address here, and these tests are about other limits.
        "SIMHERD_FAILED_KEYS_PER_MIN": "1000000",
    }
    with api_process(tmp_path_factory.mktemp("api"), redis_url, **settings) as made:
        yield made
    assert "Traceback" not in made.log.read_text()


@pytest.fixture(scope="module")
def idle_bytes(api: ApiProcess) -> int:
    """Bytes of memory that it takes before it has done much."""
    return api.memory


@pytest.fixture(scope="module")
def key(api: ApiProcess) -> str:
    return api.new_user("ada")


def _stream(connection: socket.socket) -> None:
    """Send a body in chunks for as long as somebody takes it, 64 MiB at the most."""
    connection.sendall(head("POST /tasks/submit", Transfer_Encoding="chunked"))
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for _ in range(1024):
        connection.sendall(chunk)


def _stream_with_a_wrong_key(connection: socket.socket) -> None:
    connection.sendall(head("POST /v1/tasks/batch", X_API_Key="sh_no", Content_Length=MIB * 64))
    for _ in range(1024):
        connection.sendall(b"x" * 65536)


def _send_half_a_head(connection: socket.socket) -> None:
    connection.sendall(b"GET /" + b"a" * (900 * 1024))
    connection.recv(1)


def _join_slowly(connection: socket.socket) -> None:
    connection.sendall(head("POST /v1/machines/join", Content_Length=4000) + b"x" * 3999)
    connection.recv(1)


def _leave_requests_unread(connection: socket.socket) -> None:
    connection.sendall(head("GET /openapi.json") * 2000)
    connection.recv(1)


@pytest.mark.fault("B1")
@pytest.mark.parametrize(
    "send",
    [
        _stream,
        _stream_with_a_wrong_key,
        _send_half_a_head,
        _join_slowly,
        _leave_requests_unread,
    ],
)
def test_a_flood_of_strangers_takes_little_memory_and_others_are_served(
    api: ApiProcess, key: str, idle_bytes: int, send: Callable[[socket.socket], None]
) -> None:
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), contextlib.closing(api.connect()) as connection:
                send(connection)

    with api.client(key) as ada:
        threads = [threading.Thread(target=flood, daemon=True) for _ in range(64)]
        for thread in threads:
            thread.start()
        most, end = 0, time.monotonic() + _FLOOD_S
        try:
            while time.monotonic() < end:
                assert ada.get("/users/info").status_code == 200
                most = max(most, api.memory)
        finally:
            over.set()
            for thread in threads:
                thread.join(30)
    grown = most - idle_bytes
    assert grown < MOST_GROWTH, f"{grown / MIB:.0f} MiB"


@pytest.mark.fault("B1")
def test_heads_of_very_many_fields_take_no_memory(
    api: ApiProcess, key: str, idle_bytes: int
) -> None:
    begun = b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 250_000
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                response_to(api.connect(), begun + b"\r\n")

    threads = [threading.Thread(target=send, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    most = 0
    try:
        with api.client(key) as ada:
            for _ in range(100):
                assert ada.get("/tasks").status_code == 200
                most = max(most, api.memory)
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert most - idle_bytes < MOST_GROWTH, f"{(most - idle_bytes) / MIB:.0f} MiB"


def _with_fields(number: int, newline: bytes) -> bytes:
    fields = [b"Host: x", b"Connection: close", *[b"a:"] * (number - 2)]
    return newline.join([b"GET /livez HTTP/1.1", *fields, b"", b""])


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_a_head_with_too_many_fields_gets_a_problem_response(
    api: ApiProcess, newline: bytes
) -> None:
    taken = response_to(api.connect(), _with_fields(MAX_HEAD_FIELDS, newline))
    assert taken.startswith(b"HTTP/1.1 200")
    said = response_to(api.connect(), _with_fields(MAX_HEAD_FIELDS + 1, newline))
    fields, _, body = said.partition(b"\r\n\r\n")
    assert fields.startswith(b"HTTP/1.1 431")
    assert b"content-security-policy" in fields.lower()
    assert str(MAX_HEAD_FIELDS) in json.loads(body)["detail"]


def test_a_body_of_many_lines_is_not_a_head(api: ApiProcess, key: str) -> None:
    with api.client(key) as ada:
        for _ in range(2):  # over one connection
            body = b"\n\r\n" * 10_000 + b"{}"
            assert ada.post("/tasks/submit", content=body).status_code == 422


def test_a_query_of_very_many_parameters_is_refused(api: ApiProcess) -> None:
    query = "a&" * MAX_QUERY_PARAMETERS
    said = response_to(api.connect(), head(f"GET /version-check?{query}", Connection="close"))
    assert said.startswith(b"HTTP/1.1 422")
    assert str(MAX_QUERY_PARAMETERS).encode() in said


def _path(path: str) -> str:
    return path.replace("{path:path}", "a").replace("{", "").replace("}", "")


_ALL = [
    (method, rule.route.path, rule.credential)
    for rule in rules()
    for method in sorted(rule.route.methods or ())
]
_OPEN = {
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/version-check"),
    ("GET", "/simulators/available-images"),
    ("GET", "/pricing/machine-types"),
    ("POST", "/v1/machines/join"),
}


def test_the_routes_that_need_no_key_are_these() -> None:
    assert {(m, p) for m, p, credential in _ALL if credential is Credential.NONE} == _OPEN


@pytest.mark.parametrize("more", [{"Content_Length": 10**9}, {"Transfer_Encoding": "chunked"}])
def test_no_route_reads_a_body_before_authentication(
    api: ApiProcess, more: dict[str, object]
) -> None:
    for method, path, credential in _ALL:
        if credential is Credential.NONE or method == "HEAD":
            continue
        begun = head(f"{method} {_path(path)}", X_API_Key="sh_wrong", **more)
        status = status_of(api.connect(), begun)
        # A URL without a signature has no such parameter.
        expected = {422, 403} if credential is Credential.SIGNATURE else {401, 403}
        assert status in expected, (method, path, status)


@pytest.mark.fault("B5")
def test_a_credential_of_another_kind_opens_nothing(api: ApiProcess, key: str) -> None:
    machine = {"X-Machine-Id": "m", "X-Machine-Secret": "s"}
    with api.client(key) as ada, api.client("", **machine) as m1:
        for method, path, credential in _ALL:
            if credential in (Credential.MACHINE, Credential.ATTEMPT):
                assert ada.request(method, _path(path), json={}).status_code in {401, 403}
            elif credential in (Credential.USER, Credential.OPERATOR):
                assert m1.request(method, _path(path), json={}).status_code == 401


def test_an_open_route_takes_a_small_body_alone(api: ApiProcess) -> None:
    long = MAX_OPEN_BODY_BYTES + 1
    said = response_to(api.connect(), head("POST /v1/machines/join", Content_Length=long))
    assert said.startswith(b"HTTP/1.1 413")
    chunked = head("POST /v1/machines/join", Transfer_Encoding="chunked")
    said = response_to(api.connect(), chunked + b"%x\r\n" % long + b"x" * long + b"\r\n0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413")


def test_a_client_that_sends_everything_first_sees_why_it_is_refused(api: ApiProcess) -> None:
    for size in (10, 100_000, 200_000):
        with api.client("sh_wrong") as stranger:
            answer = stranger.post("/tasks/submit", content=b"x" * size)
        assert answer.status_code == 401
        assert "X-API-Key" in answer.json()["detail"]


@pytest.mark.fault("B6")
@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ("sh_caf\xe9", 400),
        ("sh_a\tb", 400),
        ("k" * (MAX_KEY_CHARACTERS + 1), 400),
        ("sh_unknown", 401),
        ("", 401),
    ],
)
def test_keys_that_are_none(api: ApiProcess, shown: str, status: int) -> None:
    said = response_to(api.connect(), head("GET /tasks", X_API_Key=shown, Connection="close"))
    assert said.startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.fault("B6")
@pytest.mark.parametrize("shown", ["a\nb", "a\r\nb", "a\0b"])
def test_a_key_that_ends_a_header_is_not_sent(api: ApiProcess, shown: str) -> None:
    said = response_to(api.connect(), head("GET /tasks", X_API_Key=shown, Connection="close"))
    assert said.startswith(b"HTTP/1.1 400")
    assert b"content-security-policy" in said.lower()


@pytest.mark.fault("B6")
@pytest.mark.parametrize("name", ["X-API-Key", "api_key", "apikey"])
def test_a_key_in_the_url_is_refused_and_written_nowhere(
    api: ApiProcess, key: str, name: str
) -> None:
    with api.client() as stranger:
        answer = stranger.get("/tasks", params={name: key})
    assert answer.status_code == 400
    assert "header" in answer.json()["detail"]
    assert key not in answer.text
    assert key not in api.log.read_text()


@pytest.mark.fault("B6")
@pytest.mark.parametrize(
    "name", ["ap%69_key", "%61pikey", "X%2DAPI%2dKey", "+api_key", "API%5FKEY"]
)
def test_an_encoded_name_hides_no_key(api: ApiProcess, key: str, name: str) -> None:
    with api.client(key) as ada:
        answer = ada.get(f"/tasks?page=1&{name}=secret")
    assert answer.status_code == 400
    assert "header" in answer.json()["detail"]
    assert "secret" not in answer.text


@pytest.mark.fault("B1")
def test_a_body_over_the_limit_without_a_length_is_cut_off(api: ApiProcess, key: str) -> None:
    with api.client(key) as ada:
        ada.get("/users/info")
        before = api.memory
        chunk = b"x" * MIB
        with contextlib.suppress(httpx.TransportError):
            # The server ends the connection while this is still being sent.
            answer = ada.post("/tasks/submit", content=(chunk for _ in range(100)))
            assert answer.status_code == 413
        assert api.memory - before < 16 * MIB
        answer = ada.post("/tasks/submit", content=(chunk[: MIB // 2 + 1] for _ in range(2)))
        assert answer.status_code == 413
        assert str(MAX_BODY_BYTES) in answer.json()["detail"]


@pytest.mark.fault("B7")
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /tasks HTTP/1.1\r\nHost: x\r\nX-A: ",
        head("POST /v1/machines/join", Content_Length=100) + b"{",
        head("POST /v1/machines/join", Transfer_Encoding="chunked") + b"1\r\n{\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "half a chunked body"],
)
def test_what_does_not_go_on_ends(api: ApiProcess, begun: bytes) -> None:
    said = response_to(api.connect(), begun)
    assert said == b"" or said.startswith(b"HTTP/1.1 408")


@pytest.mark.fault("B7")
def test_a_head_that_comes_byte_by_byte_ends(api: ApiProcess) -> None:
    with contextlib.closing(api.connect()) as connection:

        def is_over() -> bool:
            try:
                connection.sendall(b"G")
            except OSError:
                return True
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                return connection.recv(1) == b""
            return False

        until(is_over, timeout_s=30, what="the end of the connection")


def test_the_users_own_half_body_ends(api: ApiProcess, key: str) -> None:
    begun = head("POST /tasks/submit", X_API_Key=key, Content_Length=100) + b"{"
    assert response_to(api.connect(), begun).startswith(b"HTTP/1.1 408")


@pytest.mark.fault("B7")
def test_many_silent_connections_do_not_block_other_clients(api: ApiProcess, key: str) -> None:
    most = MAX_WAITING_CONNECTIONS
    with contextlib.ExitStack() as held, api.client(key) as ada:
        connections = []
        for _ in range(most + 100):
            connection = held.enter_context(contextlib.closing(api.connect()))
            connections.append(connection)
        assert ada.get("/users/info").status_code == 200
        # Those that have waited for longest had to go.
        with contextlib.suppress(ConnectionResetError):
            assert connections[0].recv(1) == b""
    until(lambda: "event=connections_shed" in api.log.read_text(), what="a line about it")
