"""An upload while it is made: one PUT when it is small, parts that are whole when it is not."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from executor.transfer import multipart_upload as module
from executor.transfer.client import TransferClient, TransferFailed
from executor.transfer.multipart_upload import MultipartUpload
from simherd.contract.upload_grant import Grant

if TYPE_CHECKING:
    from collections.abc import Callable

GRANT = Grant("http://scheduler/grant", "secret")
PUT = "http://storage/whole"
PART = 8


class Storage:
    """Keeps whole objects, uploads in parts, and refuses the parts that it is told to."""

    def __init__(self, *refused: int) -> None:
        self.whole: bytes | None = None
        self.parts: dict[int, bytes] = {}
        self.order: list[list[object]] = []
        self.begun: list[str] = []
        self._refused = refused
        self._lock = threading.Lock()
        self.pause: Callable[[float], None] = lambda _seconds: None
        self.client = TransferClient(
            httpx.Client(transport=httpx.MockTransport(self._answer)),
            lambda seconds: self.pause(seconds),
        )

    def upload(self) -> MultipartUpload:
        return MultipartUpload(self.client, GRANT, "out.zip", PUT, self.begun.append)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path, body = request.url.path, request.read()
        with self._lock:
            if request.method == "PUT":
                if path == "/whole":
                    self.whole = body
                    return httpx.Response(200)
                number = int(path.rpartition("/")[2])
                if number in self._refused:
                    return httpx.Response(400, text="refused")
                self.parts[number] = body
                return httpx.Response(200, headers={"etag": f"e{number}"})
            asked = json.loads(body)
            if path.endswith("begin"):
                return httpx.Response(200, json={"upload": "u1"})
            if path.endswith("part"):
                return httpx.Response(200, json={"url": f"http://storage/part/{asked['number']}"})
            if path.endswith("complete"):
                self.order = asked["parts"]
            return httpx.Response(200, json={"size": 4711})


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "part_size", lambda number: PART if number < 4 else 2 * PART)


def pieces(data: bytes, step: int) -> list[bytes]:
    return [data[start : start + step] for start in range(0, len(data), step)]


@pytest.mark.parametrize("size", [0, 1, PART - 1])
def test_a_file_of_one_part_is_uploaded_whole(size: int) -> None:
    storage = Storage()
    upload = storage.upload()
    upload.write(b"x" * size)
    assert upload.finish() == 4711
    upload.close()
    assert (storage.whole, storage.parts, storage.begun) == (b"x" * size, {}, [])


@pytest.mark.parametrize("step", [1, 5, PART, 1000])
@pytest.mark.parametrize("size", [PART, PART + 1, 3 * PART, 3 * PART + 2, 100])
def test_the_parts_are_the_whole_however_it_is_written(size: int, step: int) -> None:
    storage, data = Storage(), bytes(range(size))
    upload = storage.upload()
    for piece in pieces(data, step):
        assert upload.write(piece) == len(piece)
    assert upload.finish() == 4711
    upload.close()
    assert b"".join(storage.parts[number] for number in sorted(storage.parts)) == data
    sizes = [len(storage.parts[number]) for number in sorted(storage.parts)]
    assert sizes[:-1] == [PART if number < 4 else 2 * PART for number in range(1, len(sizes))]
    assert storage.order == [[n, f"e{n}"] for n in range(1, len(sizes) + 1)]
    assert (storage.whole, storage.begun) == (None, ["u1"])


@pytest.mark.parametrize("refused", [1, 2, 5])
def test_a_part_that_is_refused_fails_the_upload(refused: int) -> None:
    storage = Storage(refused)
    upload = storage.upload()

    def write_all() -> None:
        for piece in pieces(b"x" * 100, PART):
            upload.write(piece)
        upload.finish()

    with pytest.raises(TransferFailed, match="400"):
        write_all()
    upload.close()
    assert storage.order == []


def test_more_parts_than_the_storage_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PARTS", 2)
    upload = Storage().upload()
    with pytest.raises(TransferFailed, match="larger than 2 parts"):
        upload.write(b"x" * 3 * PART)
    upload.close()


def test_an_upload_that_is_given_up_raises_at_the_next_write() -> None:
    class GivenUp(Exception):
        pass

    def give_up(_seconds: float) -> None:
        raise GivenUp

    storage = Storage()
    storage.pause = give_up
    upload = MultipartUpload(storage.client, GRANT, "out.zip", PUT, lambda _id: None)
    with pytest.raises(GivenUp):
        upload.write(b"x")
    upload.close()
