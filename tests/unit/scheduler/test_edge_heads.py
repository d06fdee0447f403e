"""Request heads that arrive in pieces: their lines are counted, those of bodies are not."""

from __future__ import annotations

import h11
import pytest

from scheduler.api.edge.heads import HeadConnection

_MOST = 4


def _connection() -> HeadConnection:
    return HeadConnection(_MOST)


def _head(fields: int, newline: bytes = b"\r\n", request: bytes = b"GET / HTTP/1.1") -> bytes:
    lines = [request, b"Host: x", *(b"a: %d" % n for n in range(fields - 1)), b"", b""]
    return newline.join(lines)


def _events(connection: HeadConnection, data: bytes, size: int) -> list[object]:
    found: list[object] = []
    for at in range(0, len(data), size):
        connection.receive_data(data[at : at + size])
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            found.append(event)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_a_head_may_have_so_many_fields(size: int, newline: bytes) -> None:
    request, _ = _events(_connection(), _head(_MOST, newline), size)
    assert isinstance(request, h11.Request)
    assert len(request.headers) == _MOST
    with pytest.raises(h11.RemoteProtocolError) as refused:
        _events(_connection(), _head(_MOST + 1, newline), size)
    assert refused.value.error_status_hint == 431


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_lines_of_a_body_and_of_the_next_head_are_not_counted(size: int, newline: bytes) -> None:
    connection, body = _connection(), b"\n\r\n\n" * 1000
    length = b"POST / HTTP/1.1%sContent-Length: %d" % (newline, len(body))
    first = _head(_MOST - 1, newline, length) + body
    second = _head(_MOST, newline)
    found = _events(connection, first + second, size)
    data = b"".join(bytes(e.data) for e in found if isinstance(e, h11.Data))
    assert data == body
    connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.start_next_cycle()
    assert isinstance(connection.next_event(), h11.Request)


def test_nothing_is_read_after_an_incomplete_head_that_is_refused() -> None:
    connection = _connection()
    with pytest.raises(h11.RemoteProtocolError):
        _events(connection, b"GET / HTTP/1.1\r\n" + b"a:\r\n" * (_MOST + 2), 1)
    held, _ = connection.trailing_data
    connection.receive_data(b"a:\r\n")
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()
    assert connection.trailing_data[0] == held


def test_the_trailer_of_a_chunked_body_is_bounded_too() -> None:
    begun = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked"
    with pytest.raises(h11.RemoteProtocolError):
        _events(_connection(), _head(2, request=begun) + b"0\r\n" + b"a:\r\n" * (_MOST + 3), 64)


def test_a_long_head_in_single_bytes_is_counted_in_linear_time() -> None:
    copied = 0

    class Counting(HeadConnection):
        @property
        def trailing_data(self) -> tuple[bytes, bool]:
            nonlocal copied
            data, closed = super().trailing_data
            copied += len(data)
            return data, closed

    connection = Counting()
    head = b"GET / HTTP/1.1\r\na: " + b"x" * 200_000
    assert not _events(connection, head, 10)
    assert copied < 100 * len(head)


def test_a_complete_trailer_of_too_many_fields_is_refused() -> None:
    begun = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked"
    trailer = b"0\r\n" + b"a:\r\n" * (_MOST + 1) + b"\r\n"
    with pytest.raises(h11.RemoteProtocolError):
        _events(_connection(), _head(2, request=begun) + trailer, 10_000)
