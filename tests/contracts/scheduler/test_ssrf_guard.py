"""What users name as an address cannot be used to look inside."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from scheduler.net.ssrf_guard import NotAllowed, check_host, checked_url, networks, open_client

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.fault("B14")

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
        "[2002:a9fe:a9fe::1]",
        "[2002:808:808::1]",
        "[2001:0:808:808::1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::10.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[64:ff9b:1:7f:0:100::]",
        "[::127.0.0.1]",
        "[::10.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[2a00:1450::5efe:7f00:1]",
        "[fec0::1]",
        "[ff02::1]",
        "[::]",
        "[3fff::1]",
        "0177.0.0.1",
        "017700000001",
        "0x7f000001",
        "127.1",
        "10.1",
        "192.88.99.1",
        "198.18.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "172.16.0.1",
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
    with open_client() as client, pytest.raises((NotAllowed, httpx.InvalidURL)):
        # Some spellings the library itself takes for no address.
        client.get(f"http://{host}:{server.server_port}/secret")
    assert _Handler.asked == []


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_a_public_address_may_be_reached(host: str) -> None:
    check_host(f"http://[{host}]/" if ":" in host else f"http://{host}/")


def test_a_name_that_resolves_anew_to_an_inner_address_is_refused(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name server under an attacker's control; the resolver of this machine cannot be made one.
    answers = iter([["8.8.8.8"], ["127.0.0.1"], ["8.8.8.8", "127.0.0.1"]])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: _rows(next(answers)))
    check_host("http://rebinding.example/")
    with open_client() as client:
        for _ in range(2):
            with pytest.raises(NotAllowed):
                client.get(f"http://rebinding.example:{server.server_port}/secret")
    assert _Handler.asked == []


def _rows(addresses: list[str]) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 0)) for a in addresses]


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
