"""Transfers over signed URLs: what is tried again, and what is final."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import httpx
import pytest

from simherd.errors import TransferError
from simherd.transfers import signed_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Step = httpx.Response | Exception
    Storage = Callable[..., list[httpx.Request]]

URL = "http://storage.test/object"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which do not happen."""
    found: list[float] = []
    monkeypatch.setattr("simherd.transfers.signed_url.time.sleep", found.append)
    return found


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Storage:
    """A function that makes the storage go through these steps, and returns its requests."""
    del waits

    def goes(*steps: Step) -> list[httpx.Request]:
        requests: list[httpx.Request] = []
        left = iter(steps)

        def handle(request: httpx.Request) -> httpx.Response:
            requests.append(request)
            request.read()
            step = next(left)
            if isinstance(step, Exception):
                raise step
            return step

        client = httpx.Client(transport=httpx.MockTransport(handle))
        monkeypatch.setattr(signed_url, "client", lambda: client)
        return requests

    return goes


def part(data: bytes, first: int, size: int) -> httpx.Response:
    where = f"bytes {first}-{first + len(data) - 1}/{size}"
    return httpx.Response(206, content=data, headers={"Content-Range": where, "ETag": '"e"'})


def test_an_upload_is_tried_again_with_its_content_from_the_beginning(
    storage: Storage, waits: list[float]
) -> None:
    requests = storage(
        httpx.Response(503),
        httpx.ConnectError("no route"),
        httpx.Response(429),
        httpx.Response(200),
    )

    def content() -> Iterator[bytes]:
        yield from (b"one ", b"two")

    signed_url.upload(URL, content, size=7)
    assert [r.content for r in requests] == [b"one two"] * 4
    assert {r.headers["Content-Length"] for r in requests} == {"7"}
    assert waits == sorted(waits)
    assert len(waits) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 412])
def test_a_refusal_is_final_and_says_why(storage: Storage, waits: list[float], status: int) -> None:
    storage(httpx.Response(status, json={"detail": "The URL has expired."}))
    with pytest.raises(TransferError, match=f"refused with {status}: The URL has expired"):
        signed_url.upload(URL, lambda: iter([b""]))
    assert waits == []


def test_a_storage_that_stays_down_is_given_up(storage: Storage, waits: list[float]) -> None:
    storage(*(httpx.Response(500) for _ in range(20)))
    with pytest.raises(TransferError, match="The upload failed: the storage responded with 500"):
        signed_url.upload(URL, lambda: iter([b""]))
    assert len(waits) == 5
    assert all(later == 2 * before for before, later in itertools.pairwise(waits))


@pytest.mark.parametrize(
    ("response", "size", "in_parts"),
    [
        (part(b"x", 0, 10), 10, True),
        (httpx.Response(200, content=b"0123456789"), 10, False),
        (httpx.Response(416), 0, False),
        (httpx.Response(206, content=b"x", headers={"Content-Range": "bytes 0-0/*"}), 1, False),
    ],
)
def test_a_request_for_one_byte_returns_size_and_etag(
    storage: Storage, response: httpx.Response, size: int, in_parts: bool
) -> None:
    requests = storage(response)
    info = signed_url.remote_info(URL)
    assert (info.size, info.in_parts) == (size, in_parts)
    assert requests[0].headers["Range"] == "bytes=0-0"


def test_pieces_resume_after_a_broken_connection(storage: Storage) -> None:
    requests = storage(part(b"0123", 0, 10), httpx.ReadTimeout("slow"), part(b"456789", 4, 10))
    assert b"".join(signed_url.pieces(URL, 0, 10)) == b"0123456789"
    assert [r.headers["Range"] for r in requests] == ["bytes=0-9", "bytes=4-9", "bytes=4-9"]


def test_pieces_that_bring_something_count_as_a_new_start(storage: Storage) -> None:
    storage(*(part(bytes([n]), n, 20) for n in range(20)))
    assert b"".join(signed_url.pieces(URL, 0, 20)) == bytes(range(20))


def test_pieces_of_a_storage_without_parts_are_refused(storage: Storage) -> None:
    storage(httpx.Response(200, content=b"0123456789"))
    with pytest.raises(TransferError, match="does not serve parts of a file"):
        list(signed_url.pieces(URL, 2, 3))


def test_a_remote_file_reads_only_the_requested_ranges(storage: Storage) -> None:
    storage(part(b"0", 0, 10), part(b"6789", 6, 10))
    with signed_url.remote_file(URL) as file:
        assert file.seek(-4, 2) == 6
        assert file.read() == b"6789"
