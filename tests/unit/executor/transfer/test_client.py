"""Transfers against a scripted storage: what is tried again, what is refused, what is given up."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from executor.transfer.client import (
    ObjectChanged,
    TransferClient,
    TransferFailed,
    TransferRefused,
    open_client,
)
from simherd.contract.upload_grant import Grant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GRANT = Grant("http://scheduler/v1/grant", "secret")
URL = "http://storage/object"


class Storage:
    """Answers each request with what comes next; the last answer is repeated."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, bytes]] = []
        self.headers: list[httpx.Headers] = []
        self.waits: list[float] = []

    def client(self, pause: Callable[[float], None] | None = None) -> TransferClient:
        http = httpx.Client(transport=httpx.MockTransport(self._answer))
        return TransferClient(http, pause or self.waits.append)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((request.method, str(request.url), request.read()))
        self.headers.append(request.headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def tries(self) -> int:
        return len([wait for wait in self.waits if wait > 0])


def ok(**body: Any) -> httpx.Response:
    return httpx.Response(200, json=body)


def status(code: int, text: str = "") -> httpx.Response:
    return httpx.Response(code, text=text)


@pytest.mark.parametrize("size", [None, 5])
def test_a_download_equals_the_stored_object(tmp_path: Path, size: int | None) -> None:
    storage = Storage(status(200, "12345"))
    assert storage.client().download(URL, tmp_path / "f", size) == 5
    assert (tmp_path / "f").read_bytes() == b"12345"


@pytest.mark.parametrize("size", [0, 4, 6])
def test_a_download_of_another_size_is_not_tried_again(tmp_path: Path, size: int) -> None:
    storage = Storage(status(200, "12345"))
    with pytest.raises(ObjectChanged, match="bytes"):
        storage.client().download(URL, tmp_path / "f", size)
    assert len(storage.requests) == 1
    assert (tmp_path / "f").stat().st_size <= size


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(tmp_path: Path, code: int) -> None:
    storage = Storage(status(code), status(code), status(200, "x"))
    assert storage.client().download(URL, tmp_path / "f") == 1
    assert storage.tries() == 2


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("late"), httpx.RemoteProtocolError("cut")],
)
def test_a_lost_connection_is_tried_again(tmp_path: Path, error: Exception) -> None:
    storage = Storage(error, status(200, "x"))
    assert storage.client().download(URL, tmp_path / "f") == 1
    assert storage.tries() == 1


@pytest.mark.parametrize("code", [301, 307, 400, 403, 404, 409, 416])
def test_a_refusal_is_final_and_carries_its_status(tmp_path: Path, code: int) -> None:
    storage = Storage(status(code, "no such key"))
    with pytest.raises(TransferRefused, match="no such key") as raised:
        storage.client().download(URL, tmp_path / "f")
    assert raised.value.status == code
    assert storage.tries() == 0


def test_waits_double_up_to_a_bound_and_end(tmp_path: Path) -> None:
    storage = Storage(status(503))
    with pytest.raises(TransferFailed, match="503"):
        storage.client().download(URL, tmp_path / "f")
    assert storage.waits == [0.5, 1, 2, 4, 8, 16, 20, 20, 20]
    assert len(storage.requests) == 10


class GivenUp(Exception):
    pass


def test_a_pause_that_raises_ends_the_tries(tmp_path: Path) -> None:
    def give_up(_seconds: float) -> None:
        raise GivenUp

    storage = Storage(status(503))
    with pytest.raises(GivenUp):
        storage.client(give_up).download(URL, tmp_path / "f")
    assert len(storage.requests) == 1
    with pytest.raises(GivenUp):
        storage.client(give_up).check()


def test_a_download_that_is_cut_is_tried_again(tmp_path: Path) -> None:
    cut = httpx.Response(200, headers={"Content-Length": "5"}, content=b"123")
    storage = Storage(cut, status(200, "12345"))
    assert storage.client().download(URL, tmp_path / "f") == 5
    assert (tmp_path / "f").read_bytes() == b"12345"


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_an_upload_carries_its_checksum(size: int) -> None:
    data = b"d" * size
    storage = Storage(status(200))
    storage.client().put(GRANT, "name", URL, data)
    [(method, url, body)] = storage.requests
    assert (method, url, body) == ("PUT", URL, data)
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    assert storage.headers[0]["content-md5"] == base64.b64encode(md5).decode()
    assert storage.headers[0]["content-length"] == str(size)


def test_a_url_that_outlived_itself_is_renewed_once() -> None:
    fresh = ok(name="http://storage/fresh")
    storage = Storage(status(403), fresh, status(200))
    storage.client().put(GRANT, "name", URL, b"d")
    assert [request[:2] for request in storage.requests] == [
        ("PUT", URL),
        ("POST", f"{GRANT.url}/urls"),
        ("PUT", "http://storage/fresh"),
    ]
    storage = Storage(status(403), fresh, status(403))
    with pytest.raises(TransferRefused):
        storage.client().put(GRANT, "name", URL, b"d")
    assert len(storage.requests) == 3


def test_each_try_of_a_part_has_a_new_url() -> None:
    stored = httpx.Response(200, headers={"etag": '"e"'})
    storage = Storage(ok(url="http://s/1"), status(503), ok(url="http://s/2"), stored)
    assert storage.client().put_part(GRANT, "name", "u", 3, b"d") == '"e"'
    assert [url for method, url, _ in storage.requests if method == "PUT"] == [
        "http://s/1",
        "http://s/2",
    ]


Call = "Callable[[TransferClient], Any]"


@pytest.mark.parametrize(
    ("call", "verb", "body", "answer", "result"),
    [
        (lambda c: c.urls(GRANT, ["a"]), "urls", {"objects": ["a"]}, {"a": "u"}, {"a": "u"}),
        (lambda c: c.begin(GRANT, "a"), "begin", {"object": "a"}, {"upload": 7}, "7"),
        (
            lambda c: c.complete(GRANT, "a", "u", [(1, "e")]),
            "complete",
            {"object": "a", "upload": "u", "parts": [[1, "e"]]},
            {"size": 9},
            9,
        ),
        (lambda c: c.abort(GRANT, "a", "u"), "abort", {"object": "a", "upload": "u"}, {}, None),
        (lambda c: c.drop(GRANT, "a"), "drop", {"object": "a"}, {}, None),
        (lambda c: c.stored_size(GRANT, "a"), "stored", {"object": "a"}, {"size": 4}, 4),
        (
            lambda c: c.save_checkpoint(GRANT, [{"path": "f"}]),
            "checkpoint",
            {"files": [{"path": "f"}]},
            {"generation": 2},
            2,
        ),
        (
            lambda c: c.checkpoints(GRANT),
            "checkpoints",
            {},
            [{"generation": 1}],
            [{"generation": 1}],
        ),
    ],
    ids=["urls", "begin", "complete", "abort", "drop", "stored", "checkpoint", "checkpoints"],
)
def test_each_verb_of_a_grant(call: Any, verb: str, body: Any, answer: Any, result: Any) -> None:
    storage = Storage(httpx.Response(200, json=answer))
    assert call(storage.client()) == result
    [(method, url, sent)] = storage.requests
    assert (method, url, json.loads(sent)) == ("POST", f"{GRANT.url}/{verb}", body)
    assert storage.headers[0]["authorization"] == "Bearer secret"


def test_connections_follow_no_redirect_and_no_proxy() -> None:
    with open_client() as client:
        assert (client.follow_redirects, client.trust_env) == (False, False)
