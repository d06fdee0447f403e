"""What users name as an address cannot be used to look inside."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from scheduler.outbound import NotAllowed, checked_url, networks, open_client

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = networks("127.0.0.0/8")


class _Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        """Answer, or lead elsewhere."""
        type(self).asked.append(self.path)
        leads_to = self.path.partition("?to=")[2]
        self.send_response(302 if leads_to else 200)
        if leads_to:
            self.send_header("Location", leads_to)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    _Handler.asked = []
    made = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[2002:7f00:1::1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.1.2.3",
        "192.168.0.1",
        "100.64.0.1",
        "224.0.0.1",
        "[fe80::1]",
        "[fd00::1]",
    ],
)
def test_an_inner_address_is_refused_before_anything_is_sent(server: HTTPServer, host: str) -> None:
    with open_client() as client, pytest.raises(NotAllowed):
        client.get(f"http://{host}:{server.server_port}/secret")
    assert _Handler.asked == []


def test_an_address_that_the_operator_allows_is_reached(server: HTTPServer) -> None:
    with open_client(HERE) as client:
        assert client.get(f"http://127.0.0.1:{server.server_port}/hook").status_code == 200
    assert _Handler.asked == ["/hook"]


def test_a_redirect_does_not_lead_inside(server: HTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}/a?to=http://169.254.169.254/latest"
    with open_client(HERE) as client, pytest.raises(NotAllowed):
        client.get(url, follow_redirects=True)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://a/", "ftp://a/b", "http://", "a", "http://u:p@example.org/"],
)
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(NotAllowed):
        checked_url(url)
